package agent

import (
	"os"
	"path/filepath"
	"strings"
)

const (
	// credential begins the name of a secret that the service manager hands over.
	credential = "cred:"
	// credentials is the folder beside edge.yaml where those secrets lie, for the
	// manager alone to read; and the id it is loaded by, as in
	// LoadCredential=credentials:/etc/plantmesh/credentials.
	credentials = "credentials"
)

// located is where a file is that a configuration names: an absolute path as it
// stands, another below base. cred:NAME is NAME in the service's credentials
// (systemd.exec(5): $CREDENTIALS_DIRECTORY), or in those of a whole folder, which
// are named credentials_NAME. A command at a shell has no such variable: it reads
// the folder credentials below beside itself, if it may.
func located(path, base, beside string) string {
	name, secret := strings.CutPrefix(path, credential)
	switch {
	case path == "" || !secret && filepath.IsAbs(path):
		return path
	case !secret:
		return filepath.Join(base, path)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return filepath.Join(beside, credentials, name)
	}
	alone := filepath.Join(dir, name)
	if _, err := os.Stat(alone); err != nil {
		return filepath.Join(dir, credentials+"_"+name)
	}
	return alone
}
