package registry

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

func publicKey(t *testing.T) string {
	t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pub
}

func TestRegistry_KeysSurviveAndStaySecret(t *testing.T) {
	dir := t.TempDir()
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a.Trust.PlantKey != b.Trust.PlantKey {
		t.Error("another opening made other keys")
	}
	info, err := os.Stat(filepath.Join(dir, "keys.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("keys.json: %v %v", info.Mode(), err)
	}
}

func TestRegistry_EnrollScopesTheAgent(t *testing.T) {
	r, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	key := publicKey(t)
	token, err := r.Enroll("graz", "gw-1", key, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "gw-1" || !c.HasEmptyPermissions() || !c.Tags.Contains("site:graz") || c.IssuerAccount != r.Trust.PlantKey {
		t.Errorf("token %+v", c)
	}
	if _, err := r.Enroll("graz", "gw-1", key, time.Hour, time.Now()); err != nil {
		t.Errorf("the same key again: %v", err)
	}
	if _, err := r.Enroll("graz", "gw-1", publicKey(t), time.Hour, time.Now()); !errors.Is(err, ErrTaken) {
		t.Errorf("another key under the name: %v", err)
	}
	for _, name := range []string{"", "a.b", "gw>", "*", "GW", "-a"} {
		if _, err := r.Enroll("graz", name, key, time.Hour, time.Now()); !errors.Is(err, ErrName) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	agents, err := r.Agents()
	if err != nil || len(agents) != 1 || agents[0].PublicKey != key {
		t.Errorf("agents %+v %v", agents, err)
	}
}

func TestRegistry_RevokedKeyNeverComesBack(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	first, second := publicKey(t), publicKey(t)
	if _, err := r.Enroll("graz", "gw-1", first, time.Hour, now); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Revoke("graz", "gw-2", "", anna(), now); !errors.Is(err, ErrUnknown) {
		t.Errorf("an agent nobody knows: %v", err)
	}
	for _, at := range []time.Time{now, now.Add(time.Hour)} { // again is no harm, and keeps the first time
		if v, err := r.Revoke("graz", "gw-1", "", anna(), at); err != nil || v.PublicKey != first || !v.Revoked.Equal(now) {
			t.Errorf("revoke: %+v %v", v, err)
		}
	}
	if a, err := r.Agents(); err != nil || len(a) != 1 || a[0].Revoked == nil || !a[0].Revoked.Equal(now) {
		t.Errorf("agents %+v %v", a, err)
	}
	if _, err := r.Enroll("graz", "gw-1", first, time.Hour, now); !errors.Is(err, ErrRevoked) {
		t.Errorf("the revoked key again: %v", err)
	}
	if _, err := r.Enroll("graz", "gw-1", second, time.Hour, now); err != nil {
		t.Errorf("the new gateway's key: %v", err)
	}
	if a, err := r.Agents(); err != nil || len(a) != 1 || a[0].Revoked != nil || a[0].PublicKey != second {
		t.Errorf("agents %+v %v", a, err)
	}
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := jwt.DecodeAccountClaims(again.Trust.PlantJWT)
	if err != nil || !c.Revocations.IsRevoked(first, now.AddDate(50, 0, 0)) || c.Revocations.IsRevoked(second, now) {
		t.Errorf("the account revokes %v %v", c.Revocations, err)
	}
}

// Without a folder of the registry nobody can tell who is enrolled and who was revoked: it
// is neither of both, and no command makes the folder anew.
func TestRegistry_AFolderIsGone(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, old := publicKey(t), publicKey(t)
	for name, k := range map[string]string{"gw-1": key, "gw-2": old} {
		if _, err := r.Enroll("graz", name, k, time.Hour, now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Revoke("graz", "gw-2", "", Actor{Who: "anna"}, now); err != nil {
		t.Fatal(err)
	}
	gone := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrGone) || errors.Is(err, ErrUnknown) || errors.Is(err, ErrRevoked) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for folder, ask := range map[string]func(){
		agentsFolder: func() {
			_, err := r.Renew("graz", "gw-1", time.Hour, now)
			gone("renew", err)
			_, err = r.Agents()
			gone("agents", err)
			_, err = r.Revoke("graz", "gw-1", "", Actor{Who: "anna"}, now)
			gone("revoke", err)
		},
		revokedFolder: func() {
			_, err := r.Enroll("graz", "gw-3", old, time.Hour, now)
			gone("enroll a revoked key", err)
			_, err = r.Renew("graz", "gw-2", time.Hour, now)
			gone("renew a revoked one", err)
		},
	} {
		at := filepath.Join(dir, folder)
		if err := os.Rename(at, at+".away"); err != nil {
			t.Fatal(err)
		}
		ask()
		_, err := Open(dir)
		gone("open without "+folder, err)
		if _, err := os.Stat(at); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was made anew: %v", folder, err)
		}
		if err := os.Rename(at+".away", at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Renew("graz", "gw-1", time.Hour, now); err != nil {
		t.Error(err)
	}
	if _, err := r.Renew("graz", "gw-2", time.Hour, now); !errors.Is(err, ErrRevoked) {
		t.Error(err)
	}
}
