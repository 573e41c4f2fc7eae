package access

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPassword(t *testing.T) {
	for p, ok := range map[string]bool{
		good: true, "elf Zeichen": false, "zwölf Zeichn": true, strings.Repeat("long words ", 12): false, "xkvq pwlf mzdr" + strings.Repeat("€", 114): true, "xkvq pwlf mzdr" + strings.Repeat("€", 115): false,
		"111111111111": false, "abcabcabcabc": false, "123456789012": false, "qwertyuiopas": false, "Password2026!": false, "passwordpassword": false, "anna2026anna": false,
		"plantmesh2026": false, "1q2w3e4r5t6y": false, "\xff\xfe 12345678901": false, "a\x00bcdefghijklm": false, "CorrectHorseBatteryStaple": false,
	} {
		if err := checkPassword("anna", p); (err == nil) != ok {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestPassword_CostsWhatOWASPSays(t *testing.T) {
	a, err := Open(Config{Dir: t.TempDir(), Now: time.Now})
	check(t, err)
	kept, err := a.hash(t.Context(), good)
	check(t, err)
	if !strings.HasPrefix(kept, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("kept is %q", kept)
	}
	for p, want := range map[string]bool{good: true, good + " ": false, "": false} {
		if ok, err := a.verify(t.Context(), kept, p); err != nil || ok != want {
			t.Errorf("%q: %v, %v", p, ok, err)
		}
	}
	if ok, err := a.verify(t.Context(), "", strings.Repeat("\x00", hashBytes)); err != nil || ok {
		t.Errorf("nobody's password: %v, %v", ok, err)
	}
	for _, bad := range []string{"x", kept[:40], strings.Replace(kept, "m=19456", "m=99999999", 1), strings.Replace(kept, "t=2", "t=99", 1), strings.Replace(kept, "argon2id", "argon2i", 1), kept + "A"} {
		if ok, err := a.verify(t.Context(), bad, good); err == nil || ok {
			t.Errorf("%q: %v", bad, ok)
		}
	}
	for range hashesAtOnce {
		a.hashes <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.hash(ctx, good); !errors.Is(err, context.Canceled) {
		t.Errorf("more hashes at once than there is memory for: %v", err)
	}
}

// Half a file, or one that somebody changed, lets nobody in; others go on.
func TestFiles_DamagedLetNobodyIn(t *testing.T) {
	b := open(t)
	b.add("anna", "admin")
	b.add("bert", "viewer")
	secret, hers := b.login("bert"), b.login("anna")
	_, token, err := b.CreateToken(cli, "bert", parse(t, "viewer"), time.Hour, "")
	check(t, err)
	for _, path := range []string{b.userFile("bert"), b.sessionFile(hashOf(secret)), b.tokenFile(hashOf(token))} {
		whole, err := os.ReadFile(path)
		check(t, err)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
		other, err := os.ReadFile(b.userFile("anna"))
		check(t, err)
		for name, bytes := range map[string][]byte{"half": whole[:len(whole)/2], "empty": {}, "more": append(slices.Clone(whole), "{}"...), "another's": other, "a key of nobody": append([]byte(`{"all":true,`), whole[1:]...), "long": append(make([]byte, maxFile), whole...)} {
			check(t, os.WriteFile(path, bytes, 0o600))
			_, bySession := b.BySession(secret, "192.0.2.1")
			_, byToken := b.ByToken(token, "192.0.2.1")
			if strings.Contains(path, tokensFolder) && byToken == nil || !strings.Contains(path, tokensFolder) && bySession == nil {
				t.Errorf("%s of %s lets somebody in", name, filepath.Base(filepath.Dir(path)))
			}
			if !b.signedIn(hers) {
				t.Errorf("%s of %s keeps others out", name, filepath.Base(filepath.Dir(path)))
			}
		}
		check(t, os.WriteFile(path, whole, 0o600))
		if _, err := b.ByToken(token, "192.0.2.1"); err != nil || !b.signedIn(secret) {
			t.Errorf("as it was: %v", err)
		}
	}
}

// Two processes change one user: none of it is lost.
func TestChange_BesideAnotherProcess(t *testing.T) {
	b := open(t)
	b.add("anna", "admin")
	other, err := Open(b.cfg)
	check(t, err)
	other.cfg.Record = func(Change) error { return nil }
	b.cfg.Record = other.cfg.Record
	var wg sync.WaitGroup
	for i := range 20 {
		a := []*Access{b.Access, other}[i%2]
		wg.Go(func() {
			if _, err := a.Grant(cli, "anna", Grant{Viewer, fmt.Sprintf("graz/line%d", i)}, ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	u, err := b.User("anna")
	check(t, err)
	if len(u.Grants) != 21 {
		t.Errorf("%d of 21 roles are left", len(u.Grants))
	}
	left, err := filepath.Glob(filepath.Join(b.cfg.Dir, "*", ".tmp-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// No secret lies in a file.
func TestFiles_HoldNoSecret(t *testing.T) {
	b := open(t)
	_, link, err := b.AddUser(cli, "anna", parse(t, "admin"), "")
	check(t, err)
	b.add("bert", "admin")
	session := b.login("bert")
	_, token, err := b.CreateToken(cli, "bert", parse(t, "viewer"), time.Hour, "")
	check(t, err)
	_, err = b.ByToken(token, "192.0.2.1")
	check(t, err)
	said := fmt.Sprintf("%+v", b.recorded)
	check(t, filepath.WalkDir(b.cfg.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		said += path + string(text)
		return err
	}))
	for _, secret := range []string{link, session, token, good} {
		if strings.Contains(said, secret) {
			t.Errorf("%q can be read", secret)
		}
	}
	if !strings.Contains(said, hashOf(token)) {
		t.Error("nothing was looked at")
	}
}
