package access

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// by is who calls by a token of a user's: with some roles of theirs, or all.
func (b *bench) by(name string, grants ...string) Caller {
	b.t.Helper()
	u, err := b.User(name)
	check(b.t, err)
	g := u.Grants
	if len(grants) > 0 {
		g = parse(b.t, grants...)
	}
	_, secret, err := b.CreateToken(cli, name, g, time.Hour, "")
	check(b.t, err)
	who, err := b.ByToken(secret, "")
	check(b.t, err)
	return who.Bound()
}

// Nobody manages a role above or outside their own: whoever they are, and whatever role
// where.
func TestManages_IsNeverMoreThanOneIs(t *testing.T) {
	places := []string{"", "graz", "graz/line1", "graz/line1/press", "graz/line10", "linz"}
	covers := func(prefix, at string) bool { return prefix == "" || strings.HasPrefix(at+"/", prefix+"/") }
	for _, via := range []string{ViaSession, ViaToken, ViaLoopback, ""} {
		for _, role := range Roles() {
			for _, at := range places {
				mine := Grant{role, at}
				who := Identity{Caller: Caller{Via: via}, User: User{Grants: []Grant{mine}}, Token: &Token{Grants: []Grant{mine}}}
				for _, other := range Roles() {
					for _, there := range places {
						g := Grant{other, there}
						want := role == Admin && covers(at, there) && (via == ViaSession || via == ViaToken)
						if got := who.Manages(g); got != want {
							t.Fatalf("%s by %q manages %s: %v", mine, via, g, got)
						}
					}
				}
			}
		}
	}
}

// What is refused changes nothing and leaves no trace.
func TestBound_NobodyGivesMoreThanTheyAre(t *testing.T) {
	b := open(t)
	b.add("root", "admin")
	b.add("graz", "admin@graz")
	b.add("oper", "operator")
	b.add("anna", "viewer@linz", "viewer")
	for _, name := range []string{"graz", "oper"} {
		by := b.by(name)
		for _, g := range parse(t, "viewer", "viewer@linz", "admin", "viewer@graz2", "governor@graz/line1") {
			want := name == "graz" && g.Location == "graz/line1"
			before := len(b.recorded)
			_, grant := b.Grant(by, "anna", g, "")
			_, withdraw := b.Withdraw(by, "anna", g, "")
			_, _, add := b.AddUser(by, "x"+name+string(g.Role), []Grant{g}, "")
			for what, err := range map[string]error{"gives": grant, "takes": withdraw, "adds": add} {
				if (err == nil) != want || err != nil && !errors.Is(err, ErrBeyond) {
					t.Errorf("%s %s %s: %v", name, what, g, err)
				}
			}
			if !want && len(b.recorded) != before {
				t.Errorf("%s and %s: it is recorded", name, g)
			}
		}
	}
}

// To do with a user as one likes one must be above all that they are: whose link one gets,
// that one can be. One without a role may get any.
func TestBound_WhomOneMayBe(t *testing.T) {
	b := open(t)
	b.add("root", "admin")
	b.add("graz", "admin@graz")
	b.add("both", "viewer@graz", "viewer@linz")
	b.add("mine", "operator@graz/line1")
	b.add("none", "viewer@graz")
	_, err := b.Withdraw(cli, "none", Grant{Viewer, "graz"}, "")
	check(t, err)
	by := b.by("graz")
	for name, want := range map[string]bool{"root": false, "both": false, "none": false, "mine": true} {
		_, _, reset := b.Reset(by, name, "")
		tok, _, ofCLI := b.CreateToken(cli, name, parse(t, "viewer@graz/line1"), time.Hour, "")
		_, _, create := b.CreateToken(by, name, parse(t, "viewer@graz/line1"), time.Hour, "")
		_, endToken := b.EndToken(by, tok.ID, "", "")
		_, end := b.End(by, name, "")
		for what, err := range map[string]error{"reset": reset, "a token": create, "the end": end, "a token's end": endToken} {
			if ofCLI != nil && strings.HasPrefix(what, "a token") { // without a role there are none
				continue
			}
			if (err == nil) != want || err != nil && !errors.Is(err, ErrBeyond) {
				t.Errorf("%s of %s: %v", what, name, err)
			}
		}
	}
}

// A token that may little gives little, whoever its owner is; who was ended, or is not said,
// gives nothing, though they called before.
func TestBound_IsOfThisMoment(t *testing.T) {
	b := open(t)
	b.add("root", "admin")
	b.add("anna", "viewer@linz")
	b.add("boss", "admin")
	g := Grant{Viewer, "graz"}
	if _, err := b.Grant(b.by("boss", "operator"), "anna", g, ""); !errors.Is(err, ErrBeyond) {
		t.Errorf("by a token of an operator's: %v", err)
	}
	if _, err := b.Grant(b.by("boss", "admin@graz"), "anna", Grant{Viewer, "linz/line1"}, ""); !errors.Is(err, ErrBeyond) {
		t.Errorf("by a token of elsewhere: %v", err)
	}
	by := b.by("boss")
	_, err := b.End(cli, "boss", "")
	check(t, err)
	for name, by := range map[string]Caller{"ended": by, "a session": {User: "root", Via: ViaSession}, "a token": {User: "root", Via: ViaToken}, "nobody": {}, "on this machine": Loopback("127.0.0.1").Bound()} {
		if _, err := b.Grant(by, "anna", g, ""); err == nil {
			t.Errorf("%s gives a role", name)
		}
	}
}
