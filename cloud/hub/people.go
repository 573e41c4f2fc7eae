package hub

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// Mine says why whoever types may not change what a hub keeps: files of another user's making
// would be none that the hub can read, and it lets nobody in then.
func Mine(cfg Config) error {
	if owner := ownerOf(cfg.Data); owner != "" {
		return fmt.Errorf("%w: %s belongs to user %s: run this as that one (runuser -u %s -- plantmesh ...)", ErrData, cfg.Data, owner, owner)
	}
	return nil
}

// MayListen says why a hub may not listen where its configuration says.
func MayListen(cfg Config) error {
	at := ""
	for name, listen := range map[string]string{"http.listen": cfg.HTTP.Listen, "nats.listen": cfg.NATS.Listen, "nats.websocket.listen": cfg.NATS.WebSocket.Listen} {
		if listen != "" && !isLoopback(listen) {
			at = name + " is " + listen
		}
	}
	if at == "" {
		return nil
	}
	var users []access.User
	if _, err := os.Stat(filepath.Join(cfg.Data, accessName)); err == nil { // to look makes nothing
		a, err := Access(cfg)
		if err != nil {
			return err
		}
		if users, err = a.Users(); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(users, func(u access.User) bool { return u.Ended == nil }) {
		return fmt.Errorf("%s: %w", at, ErrNoUsers)
	}
	return nil
}

// Grants reads roles as people write them. Their locations must lie in the hub's site: one
// that is misspelt would give nothing to anybody, and say nothing.
func Grants(cfg Config, texts []string) (out []access.Grant, err error) {
	site, err := siteName(cfg)
	if err != nil {
		return nil, err
	}
	return grantsAt(site, texts)
}

// grantsAt reads roles at locations of a site.
func grantsAt(site string, texts []string) (out []access.Grant, err error) {
	for _, text := range texts {
		g, err := access.ParseGrant(text)
		if err != nil {
			return nil, err
		}
		if first, _, _ := strings.Cut(g.Location, "/"); g.Location != access.Everywhere && first != site {
			return nil, fmt.Errorf("%w: %s is at another site: this hub's is %s, as in %s@%s", access.ErrRefused, text, site, g.Role, site)
		}
		out = append(out, g)
	}
	return out, nil
}

// Authority is the certificate by which a hub's listeners are known, in PEM.
func Authority(cfg Config) (string, error) {
	reg, err := openRegistry(cfg)
	if err != nil {
		return "", err
	}
	return reg.Authority(), nil
}

// isLoopback says whether only this machine reaches an address.
func isLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
