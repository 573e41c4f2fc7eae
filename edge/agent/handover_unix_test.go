//go:build unix

package agent

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What root has made among the certificates is the service's user's, and nothing that a
// link in them leads to.
func TestHandOver(t *testing.T) {
	if os.Geteuid() != 0 {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "root") {
			t.Fatal("only root may give files to others")
		}
		t.Skip("skipped: only root may give files to others")
	}
	const somebody = 65534
	dir := t.TempDir()
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	for name, text := range map[string]string{
		"edge.yaml": "agent: gw-1\nsite: graz\ndata: data\n", "data/pki/own/key.pem": "k", "data/other": "o", "elsewhere/secret": "s", "linked": "l",
	} {
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Symlink(at("elsewhere"), at("data", "pki", "trusted")), os.Link(at("linked"), at("data", "pki", "hard")), os.Chown(at("data"), somebody, somebody),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := HandOver(at("edge.yaml")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint32{
		"data/pki": somebody, "data/pki/own": somebody, "data/pki/own/key.pem": somebody, "data/other": 0, "elsewhere": 0, "elsewhere/secret": 0, "linked": 0, "edge.yaml": 0,
	} {
		info, err := os.Stat(at(name))
		if err != nil {
			t.Fatal(err)
		}
		if has, ok := info.Sys().(*syscall.Stat_t); !ok || has.Uid != want {
			t.Errorf("%s is of user %d, want %d", name, has.Uid, want)
		}
	}
}
