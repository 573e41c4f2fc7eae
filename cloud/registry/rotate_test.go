package registry

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
)

// signedBy is the key that signed a token.
func signedBy(t *testing.T, token string) string {
	t.Helper()
	c, err := jwt.DecodeUserClaims(token)
	check(t, err)
	return c.Issuer
}

// takes are the keys by which an account takes agents' tokens.
func takes(t *testing.T, account string) []string {
	t.Helper()
	c, err := jwt.DecodeAccountClaims(account)
	check(t, err)
	keys := c.SigningKeys.Keys()
	slices.Sort(keys)
	return keys
}

// Another key signs once it is in use, those of before are good for their time, and a
// registry beside sees it.
func TestRotate(t *testing.T) {
	dir, key := t.TempDir(), filepath.Join(t.TempDir(), "key")
	running, err := OpenSealed(dir, key)
	check(t, err)
	beside, err := OpenSealed(dir, key)
	check(t, err)
	var acts []Act
	beside.Record = func(a Act) error { acts = append(acts, a); return nil }
	now := time.Now()
	first := running.Trust.Signing.Key

	second, err := beside.Rotate(time.Hour, "a drill", anna(), now)
	check(t, err)
	if len(acts) != 1 || acts[0].Action != "signing-key.rotate" || acts[0].Before != mark(first) || acts[0].After != mark(second.Key) || acts[0].Reason != "a drill" {
		t.Errorf("recorded %+v", acts)
	}
	token, err := running.Enroll("graz", "gw-1", publicKey(t), time.Hour, now)
	check(t, err)
	if signedBy(t, token) != first {
		t.Error("a token is signed by a key that the server does not take yet")
	}
	s, err := running.Signing()
	check(t, err)
	running.Use(s)
	if token, err = running.Renew("graz", "gw-1", time.Hour, now); err != nil || signedBy(t, token) != second.Key {
		t.Errorf("the new key does not sign: %v", err)
	}
	if a, _, err := running.agent("graz", "gw-1"); err != nil || a.Signer != second.Key {
		t.Errorf("agent %+v, %v", a, err)
	}
	for at, want := range map[time.Duration][]string{0: {second.Key, first}, 59 * time.Minute: {second.Key, first}, time.Hour: {second.Key}} {
		if got := s.Good(now.Add(at)); !slices.Equal(got, want) {
			t.Errorf("after %s %q are good, want %q", at, got, want)
		}
	}
	if end := s.Ends(now); !end.Equal(now.Add(time.Hour)) || !s.Ends(end).IsZero() {
		t.Errorf("the first ends at %s", end)
	}

	// At once ends those that were still good, too.
	third, err := beside.Rotate(0, "stolen", anna(), now)
	check(t, err)
	if got := third.Good(now.Add(Swap)); !slices.Equal(got, []string{third.Key}) || len(third.Good(now)) != 3 {
		t.Errorf("%q are good", got)
	}
	again, err := OpenSealed(dir, key)
	check(t, err)
	if got := takes(t, again.Trust.PlantJWT); len(got) != 3 || !slices.Contains(got, third.Key) {
		t.Errorf("the account takes %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(dir, keysFile)); err != nil || bytes.Contains(b, []byte("seed")) || bytes.Contains(b, []byte(first)) {
		t.Errorf("the keys are not sealed any more: %v", err)
	}
}

// What is not recorded, or not asked sensibly, changes nothing.
func TestRotate_NothingHappens(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(dir)
	check(t, err)
	full := errors.New("the disk is full")
	r.Record = func(Act) error { return full }
	if _, err := r.Rotate(time.Hour, "", anna(), time.Now()); !errors.Is(err, full) {
		t.Errorf("not recorded: %v", err)
	}
	for _, grace := range []time.Duration{-time.Second, MaxGrace + 1} {
		if _, err := r.Rotate(grace, "", anna(), time.Now()); !errors.Is(err, ErrGrace) {
			t.Errorf("%s: %v", grace, err)
		}
	}
	if s, err := r.Signing(); err != nil || s.Key != r.Trust.Signing.Key || len(s.Retired) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	check(t, os.Remove(filepath.Join(dir, keysFile)))
	if _, err := r.Signing(); !errors.Is(err, errNoKeys) {
		t.Errorf("without keys: %v", err)
	}
}

// A backup's key, which may have been stolen since, does not come back by a restore; one
// that is newer than what is there does.
func TestTakeOver_OfTheSigningKey(t *testing.T) {
	for name, c := range map[string]struct {
		rotateThere, rotateBackup bool
		taken                     int
	}{
		"nothing changed":     {},
		"rotated since":       {rotateThere: true, taken: 1},
		"the backup is newer": {rotateBackup: true},
		"both, by branches":   {rotateThere: true, rotateBackup: true, taken: 1},
	} {
		there, backup := t.TempDir(), t.TempDir()
		r, err := Open(there)
		check(t, err)
		b, err := os.ReadFile(filepath.Join(there, keysFile))
		check(t, err)
		check(t, errors.Join(Folders(backup), os.WriteFile(filepath.Join(backup, keysFile), b, 0o600)))
		now := time.Now().Add(-time.Minute)
		if c.rotateThere {
			_, err = r.Rotate(0, "stolen", anna(), now)
			check(t, err)
		}
		old, err := Open(backup)
		check(t, err)
		if c.rotateBackup {
			_, err = old.Rotate(0, "", anna(), now)
			check(t, err)
		}
		want, err := r.Signing()
		check(t, err)
		before, err := old.Signing()
		check(t, err)
		if !c.rotateThere {
			want = before
		}
		n, err := TakeOver(there, backup, "")
		check(t, err)
		got, err := old.Signing()
		check(t, err)
		if good := got.Good(time.Now().Add(time.Second)); n != c.taken || !slices.Equal(good, []string{want.Key}) {
			t.Errorf("%s: %d taken over, %q are good, want %s", name, n, good, want.Key)
		}
		if before.Key != got.Key && !slices.ContainsFunc(got.Retired, func(o Retired) bool { return o.PublicKey == before.Key }) {
			t.Errorf("%s: the backup's key is not among those of before", name)
		}
	}
}

// A key that root makes at a shell is the hub's to read.
func TestRotate_AsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "root") {
			t.Fatal("only root may give files to others")
		}
		t.Skip("skipped: only root may give files to others")
	}
	const somebody = 65534
	dir := t.TempDir()
	r, err := Open(dir)
	check(t, err)
	check(t, os.Chown(dir, somebody, somebody))
	_, err = r.Rotate(0, "", anna(), time.Now())
	check(t, err)
	info, err := os.Stat(filepath.Join(dir, keysFile))
	check(t, err)
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || owner.Uid != somebody || info.Mode().Perm() != 0o600 {
		t.Errorf("keys.json: %+v", info)
	}
}
