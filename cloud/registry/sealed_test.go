package registry

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Keys that lie open are sealed at the next start; without their key nobody reads them.
func TestOpenSealed(t *testing.T) {
	dir, key := t.TempDir(), filepath.Join(t.TempDir(), "secret", "key")
	plain, err := Open(dir)
	check(t, err)
	path := filepath.Join(dir, keysFile)
	b, err := os.ReadFile(path)
	check(t, err)
	if !bytes.Contains(b, []byte(plain.keys.Operator)) {
		t.Fatal("the seed is not in the file")
	}
	for range 2 { // sealed, and opened
		r, err := OpenSealed(dir, key)
		check(t, err)
		if !reflect.DeepEqual(r.keys, plain.keys) {
			t.Error("other keys")
		}
	}
	b, err = os.ReadFile(path)
	check(t, err)
	for _, secret := range []string{plain.keys.Operator, plain.keys.Agents, "PRIVATE KEY", "seed"} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("%q is readable", secret)
		}
	}
	for _, at := range []string{path, key} {
		if info, err := os.Stat(at); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", at, info, err)
		}
	}
	fresh := t.TempDir()
	_, err = OpenSealed(fresh, key)
	check(t, err)
	if b, err := os.ReadFile(filepath.Join(fresh, keysFile)); err != nil || bytes.Contains(b, []byte("seed")) {
		t.Errorf("a new hub's keys: %s, %v", b, err)
	}

	refused := func(name string, open func() error, words string) {
		t.Helper()
		if err := open(); !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", name, err)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, b) && name != "a damaged file" {
			t.Errorf("%s has changed the keys", name)
		}
	}
	b, err = os.ReadFile(path)
	check(t, err)
	with := func(file string) func() error {
		return func() error { _, err := OpenSealed(dir, file); return err }
	}
	refused("none", func() error { _, err := Open(dir); return err }, "identity.key_file")
	refused("one that is not there", with(filepath.Join(t.TempDir(), "key")), "can't be read")
	file := func(text string, mode os.FileMode) string {
		at := filepath.Join(t.TempDir(), "key")
		check(t, os.WriteFile(at, []byte(text), 0o600))
		check(t, os.Chmod(at, mode))
		return at
	}
	refused("another", with(file(strings.Repeat("ab", 32), 0o600)), "another key")
	refused("a short one", with(file("abcd", 0o600)), "64 hexadecimal digits")
	refused("one that all can read", with(file(strings.Repeat("ab", 32), 0o604)), "chmod 600")
	check(t, os.WriteFile(path, bytes.Replace(b, []byte(`"sealed": "`), []byte(`"sealed": "AAAA`), 1), 0o600))
	refused("a damaged file", with(key), "damaged")
}

func TestTakeOver_OfSealedKeys(t *testing.T) {
	from, into, key := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "key")
	r, err := OpenSealed(from, key)
	check(t, err)
	b, err := os.ReadFile(filepath.Join(from, keysFile))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(into, keysFile), b, 0o600))
	h := &hall{r, t, r.crowd.at}
	_, err = h.Enroll("graz", "gw-1", publicKey(t), MinLifetime, h.now)
	check(t, err)
	if n, err := TakeOver(from, into, key); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
}
