package hub

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	"plantmesh/cloud/access"
)

// accessName is the folder of who may do what, in the data folder.
const accessName = "access"

// ErrNoUsers is returned for a hub that would listen to others and knows nobody.
var ErrNoUsers = errors.New("nobody has an account at this hub yet, so it listens on loopback only: make the first one (plantmesh users add NAME --role admin), then start it again")

// Access opens who may do what at a hub, beside one that runs or not.
func Access(cfg Config) (*access.Access, error) {
	return access.Open(access.Config{
		Dir: filepath.Join(cfg.Data, accessName), Now: time.Now,
		Record: func(c access.Change) error { return recordChange(cfg, c) },
	})
}

// mayListen says why a hub may not listen where its configuration says.
func mayListen(cfg Config) error {
	at := ""
	for name, listen := range map[string]string{"http.listen": cfg.HTTP.Listen, "nats.listen": cfg.NATS.Listen} {
		if !isLoopback(listen) {
			at = name + " is " + listen
		}
	}
	if at == "" {
		return nil
	}
	a, err := Access(cfg)
	if err != nil {
		return err
	}
	users, err := a.Users()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(users, func(u access.User) bool { return u.Ended == nil }) {
		return fmt.Errorf("%s: %w", at, ErrNoUsers)
	}
	return nil
}

// isLoopback says whether only this machine reaches an address.
func isLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
