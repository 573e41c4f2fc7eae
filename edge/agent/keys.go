package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/nats-io/nkeys"

	"plantmesh/proto/strict"
)

// Keygen makes this gateway's key at path, or finds it there, and returns the
// public half. The key never leaves the gateway.
func Keygen(path string) (public string, err error) {
	if b, err := os.ReadFile(path); err == nil {
		kp, err := nkeys.FromSeed(b)
		if err != nil {
			return "", &strict.Fault{File: path, What: "holds no key of an agent; name a file that is not there yet"}
		}
		return kp.PublicKey()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", &strict.Fault{File: path, What: strict.Unreadable(err)}
	}
	kp, err := nkeys.CreateUser()
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	seed, err := kp.Seed()
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", &strict.Fault{File: path, What: "the key can't be written: " + err.Error()}
	}
	_, err = f.Write(seed)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(path) // half a key is none, and would be in the way of the next try
		return "", &strict.Fault{File: path, What: "the key can't be written: " + err.Error()}
	}
	return kp.PublicKey()
}
