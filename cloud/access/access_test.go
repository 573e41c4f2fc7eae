package access

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const good = "seven green bottles"

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// bench is access in an empty folder, whose hashes cost little, and what it recorded.
type bench struct {
	*Access

	t        *testing.T
	recorded []Change
}

func open(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t}
	var err error
	b.Access, err = Open(Config{Dir: t.TempDir(), Now: time.Now, Cost: Cost{Memory: 8, Time: 1}, Record: func(c Change) error {
		b.recorded = append(b.recorded, c)
		return nil
	}})
	check(t, err)
	return b
}

var cli = Caller{User: "root", Via: ViaCLI}

// from is a caller whom nobody knows.
func from(address string) Caller { return Caller{Address: address} }

// add adds a user who has a password.
func (b *bench) add(name string, grants ...string) {
	b.t.Helper()
	_, secret, err := b.AddUser(cli, name, parse(b.t, grants...), "")
	check(b.t, err)
	_, err = b.SetPassword(b.t.Context(), from("192.0.2.1"), secret, good)
	check(b.t, err)
}

func (b *bench) login(name string) (secret string) {
	b.t.Helper()
	secret, _, err := b.Login(b.t.Context(), from("192.0.2.1"), name, good, "a browser")
	check(b.t, err)
	return secret
}

func (b *bench) signedIn(secret string) bool {
	b.t.Helper()
	_, err := b.BySession(secret, "192.0.2.1")
	if err != nil && !errors.Is(err, ErrNobody) {
		b.t.Fatal(err)
	}
	return err == nil
}

func parse(t *testing.T, grants ...string) (out []Grant) {
	t.Helper()
	for _, s := range grants {
		g, err := ParseGrant(s)
		check(t, err)
		out = append(out, g)
	}
	return out
}

// wanted is who may do what, told again here on purpose.
func wanted() map[Permission][]Role {
	all := []Role{"viewer", "technician", "operator", "quality-engineer", "maintainer", "product-owner", "governor", "admin"}
	return map[Permission][]Role{
		"read products": all, "read agents": all, "read health": all,
		"approve agents": {"operator", "admin"}, "revoke agents": {"operator", "admin"}, "manage keys": {"operator", "admin"}, "manage machines": {"operator", "admin"},
		"rotate keys": {"admin"}, "manage users": {"admin"}, "read audit": {"governor", "admin"},
		"configure agents": {"technician", "operator", "admin"}, "configure rules": {"technician", "operator", "quality-engineer", "admin"},
		"manage readers": {"product-owner", "admin"},
	}
}

func TestMay_IsTheTable(t *testing.T) {
	if len(wanted()) != len(Permissions()) {
		t.Fatalf("there are %d permissions", len(Permissions()))
	}
	places := []string{"", "graz", "graz/line1", "graz/line1/press", "graz/line10", "linz", "graz/line2"}
	below := func(at, prefix string) bool {
		return prefix == "" || (at + "/")[:min(len(prefix)+1, len(at)+1)] == prefix+"/"
	}
	yes := 0
	for _, p := range append(Permissions(), "", "read everything") {
		for _, role := range append(Roles(), "", "root") {
			for _, prefix := range places {
				for _, at := range places {
					want := slices.Contains(wanted()[p], role) && below(at, prefix)
					if got := (User{Grants: []Grant{{role, prefix}}}).May(p, at); got != want {
						t.Errorf("may %s@%s %s at %q? %v", role, prefix, p, at, got)
					} else if got {
						yes++
					}
				}
			}
		}
	}
	if yes == 0 {
		t.Error("nobody may do anything")
	}
	for _, i := range []Identity{{}, {User: User{Grants: []Grant{{Role: Admin}}}}, {Caller: Caller{Via: ViaCLI}}} {
		if i.May(ReadProducts, "graz") || i.MayAnywhere(ReadProducts) {
			t.Errorf("%+v may read", i)
		}
	}
}

// However roles are given and taken, nobody may what the table does not say of the roles
// that they have now, and a token of theirs never more than they.
func TestMay_NoSequenceGivesMore(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	b := open(t)
	b.add("root", "admin")
	_, _, err := b.AddUser(cli, "anna", parse(t, "viewer"), "")
	check(t, err)
	has := map[string]bool{"viewer": true}
	places := []string{"", "graz", "graz/line1", "graz/line1/press", "linz"}
	type made struct{ token, grant string }
	var tokens []made
	for range 120 {
		g := Grant{Roles()[r.IntN(len(Roles()))], places[r.IntN(len(places))]}
		switch r.IntN(3) {
		case 0:
			_, err = b.Grant(cli, "anna", g, "")
			check(t, err)
			has[g.String()] = true
		case 1:
			_, err := b.Withdraw(cli, "anna", g, "")
			if (err == nil) != has[g.String()] {
				t.Fatalf("withdraw %s of %v: %v", g, has, err)
			}
			delete(has, g.String())
		case 2:
			if _, secret, err := b.CreateToken(cli, "anna", []Grant{g}, time.Hour, ""); err == nil {
				tokens = append(tokens, made{secret, g.String()})
			} else if has[g.String()] && len(tokens) < maxTokens {
				t.Fatalf("a token of %s, which she has: %v", g, err)
			}
		}
		u, err := b.User("anna")
		check(t, err)
		for _, p := range Permissions() {
			for _, at := range places {
				if got, want := u.May(p, at), tabled(has, p, at); got != want {
					t.Fatalf("with %v she may %s at %q: %v", has, p, at, got)
				}
			}
		}
	}
	for _, m := range tokens {
		i, err := b.ByToken(m.token, "192.0.2.1")
		check(t, err)
		for _, p := range Permissions() {
			for _, at := range places {
				if want := tabled(has, p, at) && tabled(map[string]bool{m.grant: true}, p, at); i.May(p, at) != want {
					t.Fatalf("her token of %s may %s at %q: %v, while she has %v", m.grant, p, at, !want, has)
				}
			}
		}
	}
	if len(tokens) < 4 {
		t.Errorf("only %d tokens were made", len(tokens))
	}
}

func tabled(has map[string]bool, p Permission, at string) bool {
	for g := range has {
		role, prefix, _ := strings.Cut(g, "@")
		if slices.Contains(wanted()[p], Role(role)) && (prefix == "" || at == prefix || strings.HasPrefix(at, prefix+"/")) {
			return true
		}
	}
	return false
}

func TestParseGrant(t *testing.T) {
	for s, ok := range map[string]bool{
		"viewer": true, "operator@graz": true, "admin@graz/line1/press-2": true, "viewer@": false, "root": false, "": false, "@graz": false,
		"viewer@/graz": false, "viewer@graz/": false, "viewer@graz//l": false, "viewer@a/../b": false, "viewer@a b": false, "viewer@a@b": false,
		"viewer@" + strings.Repeat("a/", 11) + "a": false, "viewer@" + strings.Repeat("a", 64): false, "Viewer": false,
	} {
		if _, err := ParseGrant(s); (err == nil) != ok || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestUsers_TheLastAdminStays(t *testing.T) {
	b := open(t)
	if peopled, err := b.Peopled(); peopled || err != nil {
		t.Errorf("somebody is there at first: %v", err)
	}
	b.add("anna", "admin", "viewer@graz")
	if peopled, err := b.Peopled(); !peopled || err != nil {
		t.Errorf("nobody is there: %v", err)
	}
	b.add("bert", "admin@graz")
	_, err := b.End(cli, "anna", "")
	_, err2 := b.Withdraw(cli, "anna", Grant{Role: Admin}, "")
	if err == nil || err2 == nil || !strings.Contains(err.Error(), "last admin") {
		t.Errorf("the last admin ends: %v, %v", err, err2)
	}
	_, err = b.Grant(cli, "bert", Grant{Role: Admin}, "")
	check(t, err)
	_, err = b.End(cli, "anna", "has left")
	check(t, err)
	if _, _, err := b.AddUser(cli, "anna", parse(t, "viewer"), ""); !errors.Is(err, ErrRefused) {
		t.Errorf("a name is used again: %v", err)
	}
	if _, err := b.Grant(cli, "anna", Grant{Role: Viewer}, ""); !errors.Is(err, ErrRefused) {
		t.Errorf("who has ended gets a role: %v", err)
	}
	if _, _, err := b.Reset(cli, "anna", ""); !errors.Is(err, ErrRefused) {
		t.Errorf("who has ended gets a link: %v", err)
	}
	for _, name := range []string{"", "Anna", "../anna", "a/b", ".a", strings.Repeat("a", 64), "anna\n"} {
		if _, _, err := b.AddUser(cli, name, parse(t, "viewer"), ""); !errors.Is(err, ErrRefused) {
			t.Errorf("%q is a name: %v", name, err)
		}
	}
	last := b.recorded[len(b.recorded)-1]
	if want := (Change{Who: "root", Via: ViaCLI, Action: "end user", Object: "user anna", Before: "admin, viewer@graz", After: "ended", Reason: "has left"}); last != want {
		t.Errorf("recorded %+v", last)
	}
}

// What can't be recorded is not done.
func TestChange_IsRecordedOrNotMade(t *testing.T) {
	b := open(t)
	b.add("anna", "admin")
	b.cfg.Record = func(Change) error { return os.ErrPermission }
	_, _, err := b.AddUser(cli, "bert", parse(t, "viewer"), "")
	if _, unknown := b.User("bert"); !errors.Is(err, os.ErrPermission) || !errors.Is(unknown, ErrUnknown) {
		t.Errorf("add: %v, read: %v", err, unknown)
	}
	if _, _, err := b.Login(t.Context(), from("192.0.2.1"), "anna", good, ""); !errors.Is(err, os.ErrPermission) {
		t.Errorf("sign in: %v", err)
	}
}

func TestLink_IsGoodOnceAndForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t)
		_, secret, err := b.AddUser(cli, "anna", parse(t, "admin"), "")
		check(t, err)
		if _, err := b.SetPassword(t.Context(), from("192.0.2.1"), secret, "short"); !errors.Is(err, ErrPassword) {
			t.Errorf("a short password: %v", err)
		}
		var wg sync.WaitGroup
		outcomes := make(chan error, 8)
		for range 8 {
			wg.Go(func() {
				_, err := b.SetPassword(t.Context(), from("192.0.2.1"), secret, good)
				outcomes <- err
			})
		}
		wg.Wait()
		close(outcomes)
		set := 0
		for err := range outcomes {
			if err == nil {
				set++
			} else if !errors.Is(err, ErrLink) {
				t.Error(err)
			}
		}
		if set != 1 {
			t.Errorf("a link was good %d times", set)
		}
		check(t, writeJSON(b.linkFile(hashOf(secret)), link{User: "anna", Expires: time.Now().Add(time.Hour)})) // as a crash leaves it
		if _, err := b.SetPassword(t.Context(), from("192.0.2.1"), secret, good); !errors.Is(err, ErrLink) {
			t.Errorf("a link that was used, and whose file is there: %v", err)
		}
		first := b.login("anna")
		_, secret, err = b.Reset(cli, "anna", "")
		check(t, err)
		if b.signedIn(first) {
			t.Error("a session outlives a reset")
		}
		if _, _, err := b.Login(t.Context(), from("192.0.2.1"), "anna", good, ""); !errors.Is(err, ErrLogin) {
			t.Errorf("the password outlives a reset: %v", err)
		}
		_, newer, err := b.Reset(cli, "anna", "")
		check(t, err)
		time.Sleep(linkLife - time.Second) //nolint:forbidigo // synctest
		for link, ok := range map[string]bool{newer: true, secret: false, "": false, "../users/anna": false} {
			if _, err := b.LinkedUser(from("192.0.2.1"), link); (err == nil) != ok {
				t.Errorf("%q: %v", link, err)
			}
		}
		time.Sleep(time.Second) //nolint:forbidigo // synctest
		if _, err := b.SetPassword(t.Context(), from("192.0.2.1"), newer, good); !errors.Is(err, ErrLink) {
			t.Errorf("a link of a day ago: %v", err)
		}
	})
}

func TestSession_Ends(t *testing.T) {
	for name, c := range map[string]struct {
		do    func(b *bench, secret string)
		stays bool
	}{
		"nothing":              {func(*bench, string) {}, true},
		"another's end":        {func(b *bench, _ string) { _, err := b.End(cli, "bert", ""); check(b.t, err) }, true},
		"a role more":          {func(b *bench, _ string) { _, err := b.Grant(cli, "anna", Grant{Role: Viewer}, ""); check(b.t, err) }, true},
		"half an hour, unused": {func(*bench, string) { wait(SessionIdle) }, false},
		"12 hours, used": {func(b *bench, secret string) {
			for range 12*3 - 1 {
				wait(20 * time.Minute)
				if !b.signedIn(secret) {
					b.t.Error("it ends though it is used")
				}
			}
			wait(20 * time.Minute)
		}, false},
		"logout": {func(b *bench, secret string) { check(b.t, b.Logout(Caller{User: "anna", Via: ViaSession}, secret)) }, false},
		"its end": {func(b *bench, _ string) {
			all, err := b.Sessions("anna")
			check(b.t, err)
			check(b.t, b.EndSession(cli, "bert", all[0].ID))
			check(b.t, b.EndSession(cli, "anna", all[0].ID))
		}, false},
		"another's session ends": {func(b *bench, _ string) {
			all, err := b.Sessions("anna")
			check(b.t, err)
			check(b.t, b.EndSession(cli, "bert", all[0].ID))
		}, true},
		"another password": {func(b *bench, _ string) {
			check(b.t, b.ChangePassword(b.t.Context(), Caller{User: "anna", Via: ViaSession}, good, "eight green bottles"))
		}, false},
		"a reset": {func(b *bench, _ string) { _, _, err := b.Reset(cli, "anna", ""); check(b.t, err) }, false},
		"the end": {func(b *bench, _ string) { _, err := b.End(cli, "anna", ""); check(b.t, err) }, false},
		"20 logins more": {func(b *bench, _ string) {
			for range maxSessions {
				wait(time.Second)
				b.login("anna")
			}
			if all, err := b.Sessions("anna"); err != nil || len(all) != maxSessions {
				b.t.Errorf("%d sessions: %v", len(all), err)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := open(t)
				b.add("root", "admin")
				b.add("anna", "operator")
				b.add("bert", "viewer")
				secret := b.login("anna")
				if !b.signedIn(secret) {
					t.Fatal("nobody is signed in")
				}
				c.do(b, secret)
				if b.signedIn(secret) != c.stays {
					t.Errorf("after %s a session stays: %v", name, !c.stays)
				}
			})
		})
	}
}

func wait(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // in synctest

func TestLogin_TriesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t)
		b.add("anna", "admin")
		for _, name := range []string{"nobody", "../x", "anna"} {
			looked, begun := 0, len(b.recorded)
			for minute := range 60 * 60 { // a try a second for an hour, each from another address
				_, _, err := b.Login(t.Context(), from(fmt.Sprintf("198.51.%d.%d", minute/250, minute%250)), name, "wrong password", "")
				if w, waits := errors.AsType[*WaitError](err); waits {
					if w.For <= 0 || w.For > slowestTry {
						t.Fatalf("wait for %s", w.For)
					}
				} else if looked++; !errors.Is(err, ErrLogin) || err.Error() != ErrLogin.Error() {
					t.Fatal(err)
				}
				wait(time.Second)
			}
			if looked > 100 || looked < 20 {
				t.Errorf("%s: %d tries were looked at in an hour", name, looked)
			}
			if n := len(b.recorded) - begun; n < 20 || n > 61 {
				t.Errorf("%s: %d entries of an hour's failures", name, n)
			}
		}
		if _, _, err := b.Login(t.Context(), from("192.0.2.1"), "anna", good, ""); err == nil {
			t.Error("while others try, so may she") // the price; it is written down
		}
		wait(slowestTry)
		b.login("anna")
		for range 4 {
			_, _, err := b.Login(t.Context(), from("192.0.2.1"), "anna", "wrong password", "")
			if !errors.Is(err, ErrLogin) {
				t.Fatal(err)
			}
		}
		b.login("anna") // a login in between forgives
		wait(forgetTries)
		last := error(nil)
		for i := range freeAddress + 1 { // one address, many names
			_, _, last = b.Login(t.Context(), from(fmt.Sprintf("2001:db8::%x", i)), fmt.Sprintf("user%d", i), "wrong password", "")
		}
		if _, waits := errors.AsType[*WaitError](last); !waits {
			t.Errorf("an address tries %d names: %v", freeAddress, last)
		}
	})
}

func TestToken_Ends(t *testing.T) {
	for name, c := range map[string]struct {
		do    func(b *bench, id string)
		stays bool
	}{
		"nothing":         {func(*bench, string) {}, true},
		"a reset":         {func(b *bench, _ string) { _, _, err := b.Reset(cli, "anna", ""); check(b.t, err) }, true},
		"its time":        {func(*bench, string) { wait(time.Hour) }, false},
		"its end":         {func(b *bench, id string) { _, err := b.EndToken(cli, id, "anna", ""); check(b.t, err) }, false},
		"its owner's end": {func(b *bench, _ string) { _, err := b.End(cli, "anna", ""); check(b.t, err) }, false},
		"another's try": {func(b *bench, id string) {
			if _, err := b.EndToken(cli, id, "bert", ""); !errors.Is(err, ErrUnknown) {
				b.t.Error(err)
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := open(t)
				b.add("root", "admin")
				b.add("anna", "operator@graz")
				tok, secret, err := b.CreateToken(cli, "anna", parse(t, "viewer@graz/line1"), time.Hour, "a\nnote")
				check(t, err)
				if !strings.HasPrefix(secret, "pmt_") || len(secret) != len("pmt_")+43 || tok.Note != "anote" {
					t.Errorf("%q, %+v", secret, tok)
				}
				i, err := b.ByToken(secret, "192.0.2.7")
				check(t, err)
				if !i.May(ReadProducts, "graz/line1") || i.May(ReadProducts, "graz") || i.May(ApproveAgents, "graz/line1") || !i.MayAnywhere(ReadProducts) || i.MayAnywhere(ApproveAgents) {
					t.Error("a token may what it says, and nothing else")
				}
				c.do(b, tok.ID)
				if _, err := b.ByToken(secret, "192.0.2.7"); (err == nil) != c.stays || err != nil && !errors.Is(err, ErrNobody) {
					t.Errorf("after %s: %v", name, err)
				}
				all, err := b.Tokens()
				check(t, err)
				if len(all) != 1 || all[0].Used == nil || all[0].Used.Address != "192.0.2.7" {
					t.Errorf("%+v", all)
				}
			})
		})
	}
}

func TestToken_IsNeverMoreThanItsOwner(t *testing.T) {
	b := open(t)
	b.add("root", "admin")
	b.add("anna", "operator@graz")
	for grant, ok := range map[string]bool{
		"operator@graz": true, "viewer@graz": true, "technician@graz/line1": true, "viewer": false, "admin@graz": false, "governor@graz": false, "operator@linz": false,
	} {
		if _, _, err := b.CreateToken(cli, "anna", parse(t, grant), time.Hour, ""); (err == nil) != ok {
			t.Errorf("%s: %v", grant, err)
		}
	}
	for _, life := range []time.Duration{0, -1, MaxToken + 1} {
		if _, _, err := b.CreateToken(cli, "anna", parse(t, "viewer@graz"), life, ""); !errors.Is(err, ErrRefused) {
			t.Errorf("for %s: %v", life, err)
		}
	}
	if _, err := b.ByToken("pmt_"+strings.Repeat("A", 43), "192.0.2.1"); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
}
