package registry

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

func wanted(name, note string) Reader {
	return Reader{Name: name, Domain: "production", Reads: []string{"dp.v1.production.>"}, Note: note}
}

// credentialsOf takes a reader's file apart.
func credentialsOf(t *testing.T, file string) (*jwt.UserClaims, nkeys.KeyPair) {
	t.Helper()
	token, err := nkeys.ParseDecoratedJWT([]byte(file))
	check(t, err)
	c, err := jwt.DecodeUserClaims(token)
	check(t, err)
	kp, err := nkeys.ParseDecoratedNKey([]byte(file))
	check(t, err)
	return c, kp
}

// Of what a reader gets nothing is kept that could let in another one; what it may is told
// by an account of its own.
func TestReaders(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(dir)
	check(t, err)
	var said []string
	r.Record = func(a Act) error { said = append(said, a.Action+" "+a.Object+" "+a.Reason); return nil }
	now := time.Now()
	is, file, err := r.AddReader(wanted("mes", "their line boards"), time.Hour, anna(), now)
	check(t, err)
	c, kp := credentialsOf(t, file)
	if pub, err := kp.PublicKey(); err != nil || pub != is.Key || c.Subject != is.Key || c.Issuer != is.Account || c.Expires != is.Expires.Unix() || !strings.Contains(file, "BEGIN CERTIFICATE") {
		t.Errorf("credentials %+v, %v", c, err)
	}
	if len(c.Pub.Allow) != 3 || len(c.Sub.Allow) != 2 || c.Sub.Allow.Contains(">") {
		t.Errorf("it may %+v", c.Permissions)
	}
	b, err := os.ReadFile(filepath.Join(dir, readersFolder, "mes.json"))
	check(t, err)
	if seed := regexp.MustCompile(`S[A-Z][A-Z2-7]{56}`); seed.Match(b) || !seed.MatchString(file) {
		t.Errorf("a seed is kept: %s", b)
	}
	again, _, err := r.RenewReader("mes", 2*time.Hour, anna(), now.Add(time.Minute))
	check(t, err)
	if again.Account == is.Account || again.Key == is.Key || !again.Added.Equal(is.Added) || !again.Expires.After(is.Expires) {
		t.Errorf("renewed %+v", again)
	}
	for good, want := range map[bool]bool{true: false, false: true} {
		token, err := r.ReaderAccount(&again, good)
		check(t, err)
		a, err := jwt.DecodeAccountClaims(token)
		check(t, err)
		if got := a.IsClaimRevoked(c); got != want || len(a.Imports) != 4 || len(a.Exports) != 0 || a.Limits.IsJSEnabled() {
			t.Errorf("good %t: revoked %t, %+v", good, got, a)
		}
		for _, i := range a.Imports {
			if i.Account != r.Trust.DomainKey {
				t.Errorf("it imports %s of %s", i.Subject, i.Account)
			}
		}
	}
	v, err := r.RevokeReader("mes", "left", anna(), now)
	if err != nil || v.Good(now) {
		t.Errorf("%+v, %v", v, err)
	}
	_, _, err = r.AddReader(wanted("mes", ""), time.Hour, anna(), now)
	check(t, err)
	if got, want := strings.Join(said, ","), "reader.add mes their line boards,reader.renew mes their line boards,reader.revoke mes left,reader.add mes "; got != want {
		t.Errorf("recorded %s, want %s", got, want)
	}
}

// What is not asked sensibly, or not recorded, makes no reader.
func TestReaders_NothingHappens(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(dir)
	check(t, err)
	now := time.Now()
	_, _, err = r.AddReader(wanted("mes", ""), time.Hour, anna(), now)
	check(t, err)
	before, err := r.Readers()
	check(t, err)
	full := errors.New("the disk is full")
	for name, c := range map[string]struct {
		do   func() error
		want error
	}{
		"a name that is taken": {func() error {
			_, _, err := r.AddReader(wanted("mes", ""), time.Hour, anna(), now)
			return err
		}, ErrReader},
		"a name of two tokens": {func() error {
			_, _, err := r.AddReader(wanted("a.b", ""), time.Hour, anna(), now)
			return err
		}, ErrName},
		"a name of all": {func() error {
			_, _, err := r.AddReader(wanted("*", ""), time.Hour, anna(), now)
			return err
		}, ErrName},
		"for ever": {func() error {
			_, _, err := r.AddReader(wanted("b", ""), MaxLifetime+1, anna(), now)
			return err
		}, ErrReader},
		"renew nobody":          {func() error { _, _, err := r.RenewReader("nobody", time.Hour, anna(), now); return err }, ErrNoReader},
		"revoke what is a path": {func() error { _, err := r.RevokeReader("../keys", "", anna(), now); return err }, ErrNoReader},
		"not recorded": {func() error {
			r.Record = func(Act) error { return full }
			_, _, add := r.AddReader(wanted("b", ""), time.Hour, anna(), now)
			_, _, renew := r.RenewReader("mes", time.Hour, anna(), now)
			_, revoke := r.RevokeReader("mes", "", anna(), now)
			r.Record = nil
			if !errors.Is(add, full) || !errors.Is(renew, full) {
				return nil
			}
			return revoke
		}, full},
	} {
		if err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	after, err := r.Readers()
	if err != nil || len(after) != 1 || after[0].Key != before[0].Key || after[0].Revoked != nil {
		t.Errorf("%+v, %v", after, err)
	}
}

// A restore gives nobody back who was revoked since, and keeps who came since.
func TestTakeOver_Readers(t *testing.T) {
	here, backup := t.TempDir(), t.TempDir()
	r, err := Open(here)
	check(t, err)
	now := time.Now()
	for _, name := range []string{"stays", "goes"} {
		_, _, err := r.AddReader(wanted(name, ""), time.Hour, anna(), now)
		check(t, err)
	}
	check(t, os.CopyFS(filepath.Join(backup, "copy"), os.DirFS(here)))
	_, err = r.RevokeReader("goes", "", anna(), now.Add(time.Minute))
	check(t, err)
	_, _, err = r.AddReader(wanted("comes", ""), time.Hour, anna(), now.Add(time.Minute))
	check(t, err)
	into := filepath.Join(backup, "copy")
	if n, err := TakeOver(here, into, ""); err != nil || n != 2 {
		t.Errorf("%d are kept, %v", n, err)
	}
	restored, err := Open(into)
	check(t, err)
	is, err := restored.Readers()
	check(t, err)
	for i, want := range []struct {
		name string
		good bool
	}{{"comes", true}, {"goes", false}, {"stays", true}} {
		if len(is) != 3 || is[i].Name != want.name || is[i].Good(now) != want.good {
			t.Errorf("%+v", is)
		}
	}
}
