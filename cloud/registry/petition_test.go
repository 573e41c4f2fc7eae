package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"plantmesh/proto/enroll"
)

// gateway is one that asks.
type gateway struct {
	t  *testing.T
	kp nkeys.KeyPair
	q  enroll.Request
}

func newGateway(t *testing.T, name string) *gateway {
	t.Helper()
	kp, err := nkeys.CreateUser()
	check(t, err)
	pub, err := kp.PublicKey()
	check(t, err)
	return &gateway{t, kp, enroll.Request{Version: enroll.Version, PublicKey: pub, Agent: name, Host: enroll.Host{Name: "box", System: "linux/arm64", Cores: 4}}}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (g *gateway) signed() enroll.Signed {
	b, err := json.Marshal(g.q)
	check(g.t, err)
	sig, err := g.kp.Sign(b)
	check(g.t, err)
	return enroll.Signed{Request: b, Signature: sig}
}

func (g *gateway) code() string { return enroll.Code(g.q.PublicKey) }

// hall is a registry with a clock.
type hall struct {
	*Registry

	t   *testing.T
	now time.Time
}

func newHall(t *testing.T) *hall {
	t.Helper()
	r, err := Open(t.TempDir())
	check(t, err)
	return &hall{r, t, time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)}
}

func (h *hall) gate() Gate { return Gate{Site: "graz", Lifetime: time.Hour} }

func (h *hall) ask(g *gateway) enroll.Answer {
	h.t.Helper()
	a, err := h.Ask(h.gate(), g.signed(), "192.0.2.7", h.now)
	check(h.t, err)
	return a
}

func (h *hall) inviteFor(uses int) string {
	h.t.Helper()
	_, secret, err := h.Invite(Invite{Uses: uses, Created: h.now, Expires: h.now.Add(time.Hour)}, anna())
	check(h.t, err)
	return secret
}

func TestAsk_WaitsUntilSomebodyDecides(t *testing.T) {
	h, g := newHall(t), newGateway(t, "gw-1")
	for range 2 {
		if a := h.ask(g); a.State != enroll.Pending || a.Retry == 0 || a.Token != "" {
			t.Fatalf("a stranger is answered %+v", a)
		}
	}
	all, err := h.Petitions()
	if err != nil || len(all) != 1 || all[0].Code != g.code() || all[0].From != "192.0.2.7" || all[0].Request.Host.Cores != 4 {
		t.Fatalf("%+v, %v", all, err)
	}
	if _, err := h.Refuse(strings.ToLower(g.code()), "not ours", anna(), h.now); err != nil {
		t.Fatal(err)
	}
	if a := h.ask(g); a.State != enroll.Refused || a.Why != "not ours" {
		t.Errorf("one that was refused is answered %+v", a)
	}
	if _, err := h.Approve(enroll.Fingerprint(g.q.PublicKey), "graz", "press-1", anna(), h.now); err != nil {
		t.Fatal(err)
	}
	for range 2 { // an answer that was lost is asked for again
		if a := h.ask(g); a.State != enroll.Approved || a.Agent != "press-1" || a.Site != "graz" || !strings.Contains(a.Token, "JWT") {
			t.Errorf("one that was let in is answered %+v", a)
		}
	}
	if all, _ := h.Petitions(); len(all) != 0 {
		t.Errorf("it has its token, and still waits: %+v", all)
	}
	if _, err := h.Revoke("graz", "press-1", "", anna(), h.now); err != nil {
		t.Fatal(err)
	}
	if a := h.ask(g); a.State != enroll.Refused || !strings.Contains(a.Why, "revoked") {
		t.Errorf("one whose key was revoked is answered %+v", a)
	}
}

func TestAsk_TakesOnlyWhatItsKeySigned(t *testing.T) {
	h, g, other := newHall(t), newGateway(t, "gw-1"), newGateway(t, "gw-1")
	s := g.signed()
	for name, s := range map[string]enroll.Signed{
		"by another":     {Request: s.Request, Signature: other.signed().Signature},
		"not at all":     {Request: s.Request},
		"changed behind": {Request: []byte(strings.Replace(string(s.Request), "gw-1", "gw-2", 1)), Signature: s.Signature},
	} {
		if a, err := h.Ask(h.gate(), s, "", h.now); !errors.Is(err, ErrForged) {
			t.Errorf("signed %s: %+v, %v", name, a, err)
		}
	}
	g.q.PublicKey = strings.Repeat("U", 56)
	if _, err := h.Ask(h.gate(), g.signed(), "", h.now); !errors.Is(err, enroll.ErrRequest) {
		t.Errorf("a key that is none: %v", err)
	}
	g = newGateway(t, "gw-1")
	g.q.Site = "linz"
	if a := h.ask(g); a.State != enroll.Refused || !strings.Contains(a.Why, "graz") {
		t.Errorf("of another site: %+v", a)
	}
}

func TestAsk_NameOfAnother(t *testing.T) {
	h, first, second := newHall(t), newGateway(t, "gw-1"), newGateway(t, "gw-1")
	h.ask(first)
	h.ask(second)
	_, err := h.Approve(first.code(), "graz", "", anna(), h.now)
	check(t, err)
	h.ask(first)
	if _, err := h.Approve(second.code(), "graz", "", anna(), h.now); !errors.Is(err, ErrTaken) {
		t.Errorf("another key under a name that is taken: %v", err)
	}
	if _, err := h.Approve(second.code(), "graz", "gw-2", anna(), h.now); err != nil {
		t.Errorf("under another name: %v", err)
	}
	if a := h.ask(second); a.Agent != "gw-2" {
		t.Errorf("%+v", a)
	}
	for _, shown := range []string{"0000-0000", "", first.code()} {
		if _, err := h.Approve(shown, "graz", "", anna(), h.now); !errors.Is(err, ErrCode) {
			t.Errorf("nobody who asks shows %q: %v", shown, err)
		}
	}
}

// Whoever floods the hub with requests keeps nobody else out, and fills no disk.
func TestAsk_ACrowdIsBounded(t *testing.T) {
	h := newHall(t)
	crowd := func(from string, n int) (refused int) {
		for i := range n {
			_, err := h.Ask(h.gate(), newGateway(t, fmt.Sprintf("gw-%d", i)).signed(), from, h.now)
			if errors.Is(err, ErrCrowd) {
				refused++
			} else {
				check(t, err)
			}
		}
		return refused
	}
	if n := crowd("192.0.2.1", maxFrom+5); n != 5 {
		t.Errorf("of one address %d too many are refused", n)
	}
	if n := crowd("192.0.2.2", 1); n != 0 {
		t.Error("another address is kept out by the first")
	}
	h.now = h.now.Add(askedFor)
	if n := crowd("192.0.2.1", 1); n != 0 {
		t.Error("those that ask no more still count")
	}
	if all, err := h.Petitions(); err != nil || len(all) != 1 {
		t.Errorf("%d are remembered, %v", len(all), err)
	}
}

func TestInvite_LetsInAsManyAsItIsFor(t *testing.T) {
	h := newHall(t)
	secret := h.inviteFor(3)
	var wg sync.WaitGroup
	var mu sync.Mutex
	in, out := 0, 0
	for i := range 8 {
		g := newGateway(t, fmt.Sprintf("gw-%d", i))
		g.q.Key = secret
		s := g.signed()
		wg.Go(func() {
			r, err := Open(h.dir) // as a process of its own has it
			if err == nil {
				var a enroll.Answer
				for range 3 { // the same gateway again counts once
					if a, err = r.Ask(h.gate(), s, "", h.now); err != nil {
						break
					}
				}
				mu.Lock()
				defer mu.Unlock()
				if a.State == enroll.Approved {
					in++
				} else {
					out++
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if in != 3 || out != 5 {
		t.Errorf("%d came in by a key for 3, %d did not", in, out)
	}
	all, err := h.Invites()
	if err != nil || len(all) != 1 || len(all[0].Used) != 3 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestInvite_ThatLetsNobodyIn(t *testing.T) {
	for name, spoil := range map[string]func(h *hall, g *gateway){
		"guessed": func(_ *hall, g *gateway) { g.q.Key = "pmk-" + strings.Repeat("a", 32) },
		"ended": func(h *hall, _ *gateway) {
			all, err := h.Invites()
			check(h.t, err)
			_, err = h.EndInvite(all[0].ID, "", anna(), h.now)
			check(h.t, err)
		},
		"out of date": func(h *hall, _ *gateway) { h.now = h.now.Add(time.Hour) },
		"for other names": func(h *hall, g *gateway) {
			_, secret, err := h.Invite(Invite{Uses: 1, Prefix: "line7-", Created: h.now, Expires: h.now.Add(time.Hour)}, anna())
			check(h.t, err)
			g.q.Key = secret
		},
		"used up": func(h *hall, g *gateway) {
			o := newGateway(h.t, "gw-2")
			o.q.Key = g.q.Key
			h.ask(o)
		},
	} {
		h, g := newHall(t), newGateway(t, "gw-1")
		g.q.Key = h.inviteFor(1)
		spoil(h, g)
		if a := h.ask(g); a.State != enroll.Refused || a.Why != ErrInvite.Error() {
			t.Errorf("a key that is %s: %+v", name, a)
		}
	}
	h := newHall(t)
	for name, i := range map[string]Invite{
		"nobody":   {Uses: 0, Created: h.now, Expires: h.now.Add(time.Hour)},
		"too many": {Uses: MaxUses + 1, Created: h.now, Expires: h.now.Add(time.Hour)},
		"for ever": {Uses: 1, Created: h.now, Expires: h.now.Add(MaxInvite + 1)},
		"the past": {Uses: 1, Created: h.now, Expires: h.now},
	} {
		if _, _, err := h.Invite(i, anna()); err == nil {
			t.Errorf("a key for %s is made", name)
		}
	}
}

// The secret is nowhere in what is kept.
func TestInvite_IsKeptAsAHash(t *testing.T) {
	h, g := newHall(t), newGateway(t, "gw-1")
	secret := h.inviteFor(1)
	g.q.Key = secret
	h.ask(g)
	o := newGateway(t, "gw-2")
	o.q.Key = "pmk-wrong"
	h.ask(o)
	for _, s := range []string{secret, "pmk-wrong"} {
		if found := grep(t, h.dir, s); found != "" {
			t.Errorf("%s stands in %s", s, found)
		}
	}
}

// grep is the first file below a folder that has a text.
func grep(t *testing.T, dir, text string) (found string) {
	t.Helper()
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), text) {
			found = path
		}
		return err
	}))
	return found
}

func TestCarry_AnswersAFile(t *testing.T) {
	h, g := newHall(t), newGateway(t, "gw-1")
	for range 2 {
		if a, err := h.Carry(h.gate(), g.signed(), "press-1", anna(), h.now); err != nil || a.State != enroll.Approved || a.Agent != "press-1" {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	_, err := h.Revoke("graz", "press-1", "", anna(), h.now)
	check(t, err)
	if a, err := h.Carry(h.gate(), g.signed(), "", anna(), h.now); err != nil || a.State != enroll.Refused {
		t.Errorf("a revoked key in a file: %+v, %v", a, err)
	}
}
