package hub

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"plantmesh/cloud/registry"
	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// caller is somebody at the agents' listener, and what they may there.
type caller struct {
	name string // of the agent; for its inbox
	as   nats.Option
	in   bool     // they are let in at all
	says []string // subjects they may publish on
	hear []string // patterns they may subscribe to
	deaf []string // of those the ones where the hub is never heard
}

// everySubject are all subjects of the house, for two agents of two sites, and those of the
// server itself.
func everySubject() (out []string) {
	for _, site := range []string{"graz", "wien"} {
		for _, agent := range []string{"gw-1", "gw-2"} {
			out = append(out, subject.Ingest(site, agent, subject.Live), subject.Ingest(site, agent, subject.Backlog), subject.Receipt(site, agent), subject.Resume(site, agent),
				subject.Renew(site, agent), subject.Refresh(site, agent), subject.Report(site, agent), subject.Inbox(agent)+".x", subject.Product("production", "oee", "1", site, "line1", agent))
		}
	}
	return append(out, subject.Canary, "ingest.v1.graz.gw-1", "ingest.v1.graz.gw-1.live.deeper", "ctl.v1.graz.gw-1.other", "ctl.v1.graz.gw-1.renew.deeper", "gap.v1.graz.gw-1", "q.v1.graz", "plain", "_INBOX.x", "_INBOX.gw-1",
		"$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.INGEST", "$JS.API.STREAM.DELETE.INGEST", "$JS.API.STREAM.PURGE.INGEST", "$JS.API.STREAM.MSG.GET.INGEST", "$JS.API.STREAM.MSG.DELETE.INGEST",
		"$JS.API.DIRECT.GET.INGEST", "$JS.API.CONSUMER.CREATE.INGEST", "$JS.API.CONSUMER.MSG.NEXT.PRODUCTS.x", "$JS.ACK.INGEST.x.1.1.1.1.1",
		"$JS.production.API.CONSUMER.INFO.PRODUCTS.mes", "$JS.production.API.CONSUMER.MSG.NEXT.PRODUCTS.mes", "$JS.production.API.CONSUMER.CREATE.PRODUCTS.mes", "$JS.production.API.CONSUMER.DELETE.PRODUCTS.mes", "$JS.production.API.CONSUMER.MSG.NEXT.PRODUCTS.wms",
		"$JS.production.API.STREAM.INFO.PRODUCTS", "$JS.production.API.STREAM.PURGE.PRODUCTS", "$JS.production.API.DIRECT.GET.PRODUCTS", "$JS.API.CONSUMER.INFO.PRODUCTS.mes", "$JS.API.CONSUMER.MSG.NEXT.PRODUCTS.mes", "$JS.API.STREAM.PURGE.PRODUCTS", "$JS.API.STREAM.DELETE.PRODUCTS",
		"$JS.ACK.PRODUCTS.mes.1.1.1.1.1", "$JS.ACK.PRODUCTS.wms.1.1.1.1.1", "dp.v1.maintenance.need.1.graz.line1.press", "$JS.FC.x", "$JSC.R.x", "$KV.x", "$O.x", "$G.x",
		"$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.DELETE", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.USER.INFO", "$SYS.ACCOUNT.x.CONNECT", "$NRG.x", "$GNR.x", "$LDS.x")
}

// patterns are what somebody may try to hear: every subject, and with tokens left open.
func patterns() (out []string) {
	out = append(everySubject(), ">", "*", "*.>", "*.*.*.*.*", "ingest.>", "ingest.v1.>", subject.IngestAll, "ingest.v1.graz.>", "ingest.v1.*.gw-1.*", "ingest.v1.graz.gw-1.>", subject.ProductAll,
		"ctl.>", subject.ResumeAll, subject.RenewAll, subject.ReportAll, "ctl.v1.graz.*.receipt", "ctl.v1.*.gw-1.receipt", "ctl.v1.graz.gw-1.*", "ctl.v1.graz.gw-1.>", "ctl.v1.*.*.refresh",
		"_INBOX.>", "_INBOX.*", "_INBOX.*.x", "_INBOX.gw-1.>", "_INBOX.gw-2.>", "$JS.>", "$JS.API.>", "$JS.EVENT.>", "$SYS.>", "$SYS.*.>", "$NRG.>", "dp.v1.*.oee.>", "dp.v1.production.>", "dp.v1.production.oee.>")
	slices.Sort(out)
	return slices.Compact(out)
}

// own is what an agent may: told again here on purpose.
func own(site, agent string) (says, hear []string) {
	at := "." + site + "." + agent + "."
	says = []string{"ingest.v1" + at + "live", "ingest.v1" + at + "backlog", "ctl.v1" + at + "resume", "ctl.v1" + at + "renew", "ctl.v1" + at + "report"}
	hear = []string{"ctl.v1" + at + "receipt", "ctl.v1" + at + "refresh", "_INBOX." + agent + ".x", "_INBOX." + agent + ".>"}
	return says, hear
}

// reads is what a reader of all products may, in an account where nobody else is. What it
// asks for arrives in that of the domain under the name that the server knows.
func reads(name string) (says, hear, deaf []string) {
	for _, api := range []string{"$JS.production.API", "$JS.API"} {
		says = append(says, api+".CONSUMER.INFO.PRODUCTS."+name, api+".CONSUMER.MSG.NEXT.PRODUCTS."+name)
	}
	says = append(says, "$JS.ACK.PRODUCTS."+name+".1.1.1.1.1")
	deaf = []string{"_INBOX.x", "_INBOX.gw-1", "_INBOX.gw-1.x", "_INBOX.gw-2.x", "_INBOX.>", "_INBOX.*", "_INBOX.*.x", "_INBOX.gw-1.>", "_INBOX.gw-2.>"}
	hear = append(hear, deaf...)
	for _, at := range []string{"graz.line1.gw-1", "graz.line1.gw-2", "wien.line1.gw-1", "wien.line1.gw-2"} {
		hear = append(hear, "dp.v1.production.oee.1."+at)
	}
	return says, append(hear, "dp.v1.production.>", "dp.v1.production.oee.>"), deaf
}

// callers are all kinds of them.
func callers(t *testing.T, h *hub) map[string]caller {
	t.Helper()
	agent := func(reg *registry.Registry, site, name string, life time.Duration) nats.Option {
		seed, pub := key(t)
		token, err := reg.Enroll(site, name, pub, life, time.Now())
		check(t, err)
		return nats.UserJWTAndSeed(token, seed)
	}
	// signed is a user of somebody's own making, where they have no key of this hub.
	signed := func(by nkeys.KeyPair, account string, change func(*jwt.UserClaims)) nats.Option {
		seed, pub := key(t)
		c := jwt.NewUserClaims(pub)
		c.Name, c.IssuerAccount = "gw-1", account
		c.Tags.Add("site:graz")
		change(c)
		token, err := c.Encode(by)
		check(t, err)
		return nats.UserJWTAndSeed(token, seed)
	}
	foreign, err := registry.Open(t.TempDir())
	check(t, err)
	account, err := nkeys.CreateAccount()
	check(t, err)
	seed, pub := key(t)
	token := enrolled(t, h, "gw-4", pub, time.Hour)
	otherSeed, _ := key(t)
	graz1, hear1 := own("graz", "gw-1")
	graz2, hear2 := own("graz", "gw-2")
	wien2, hearWien2 := own("wien", "gw-2")
	asks, products, deaf := reads("mes")
	late := filepath.Join(t.TempDir(), "late")
	_, ended, err := h.reg.AddReader(registry.Reader{Name: "late", Domain: "production", Reads: []string{"dp.v1.production.>"}}, time.Hour, operator(), time.Now().Add(-2*time.Hour))
	check(t, err)
	check(t, os.WriteFile(late, []byte(ended), 0o600))
	return map[string]caller{
		"an agent":                           {"gw-1", agent(h.reg, "graz", "gw-1", time.Hour), true, graz1, hear1, nil},
		"another agent":                      {"gw-2", agent(h.reg, "graz", "gw-2", time.Hour), true, graz2, hear2, nil},
		"one of its name at another site":    {"gw-2", agent(h.reg, "wien", "gw-2", time.Hour), true, wien2, hearWien2, nil},
		"a reader":                           {"mes", nats.UserCredentials(added(t, h, "mes")), true, asks, products, deaf},
		"a reader whose time is over":        {name: "late", as: nats.UserCredentials(late)},
		"nobody":                             {name: "gw-1", as: nats.Name("nobody")},
		"by name and password":               {name: "gw-1", as: nats.UserInfo("gw-1", "gw-1")},
		"by a word":                          {name: "gw-1", as: nats.Token("gw-1")},
		"an agent of another hub":            {name: "gw-1", as: agent(foreign, "graz", "gw-1", time.Hour)},
		"with a token that has ended":        {name: "gw-3", as: agent(h.reg, "graz", "gw-3", -time.Minute)},
		"with somebody's token, another key": {name: "gw-4", as: nats.UserJWTAndSeed(token, otherSeed)},
		"with a token that was changed":      {name: "gw-4", as: nats.UserJWTAndSeed(token[:len(token)-4]+"AAAA", seed)},
		"of the plant, by a key of their own": {name: "gw-1", as: signed(account, h.reg.Trust.PlantKey, func(c *jwt.UserClaims) {
			c.SetScoped(true)
		})},
		"of the system, by a key of their own": {name: "gw-1", as: signed(account, h.reg.Trust.SystemKey, func(c *jwt.UserClaims) { c.Pub.Allow.Add(">") })},
		"of the domain, by a key of their own": {name: "mes", as: signed(account, h.reg.Trust.DomainKey, func(c *jwt.UserClaims) { c.Pub.Allow.Add(">") })},
		"of an account of their own":           {name: "gw-1", as: signed(account, "", func(*jwt.UserClaims) {})},
	}
}

// Every subject, said and heard by everybody: no access beyond the table, and none
// missing. What the server refuses counts, and what is heard.
func TestSubjects_AreForThoseOfTheTable(t *testing.T) {
	h, _ := read(t)
	for who, c := range callers(t, h) {
		c.tries(t, h, who, dial)
	}
}

// tries has a caller say and hear everything at a listener.
func (c *caller) tries(t *testing.T, h *hub, who string, call func(*hub, string, nats.Option, ...nats.Option) (*nats.Conn, error)) {
	t.Helper()
	d := &denials{}
	nc, err := call(h, c.name, c.as, nats.NoReconnect(), nats.Timeout(10*time.Second), nats.ErrorHandler(d.take))
	if (err == nil) != c.in {
		t.Errorf("%s is let in: %t, %v", who, err == nil, err)
	}
	if err != nil {
		return
	}
	defer nc.Close()
	said(t, h, who, nc, d, c.says)
	heard(t, h, who, nc, d, c.hear, c.deaf)
}

// What is said in the account of the edge is not heard in the domain's, and the other way.
func TestSubjects_AccountsAreApart(t *testing.T) {
	h := opened(t)
	for what, c := range map[string][2]*nats.Conn{"the edge": {h.conn, h.domain}, "the domain": {h.domain, h.conn}} {
		own, other := listening(t, c[0], ">", what), listening(t, c[1], ">", what)
		for _, s := range ordinary() {
			check(t, c[0].Publish(s, []byte(what)))
		}
		check(t, c[0].FlushTimeout(10*time.Second))
		if got := other(); len(got) > 0 {
			t.Errorf("said in the account of %s, and heard beside it: %q", what, got)
		}
		if got := own(); len(got) < len(ordinary()) {
			t.Errorf("control: of %d subjects %d are heard in the account of %s itself", len(ordinary()), len(got), what)
		}
	}
}

// Who asks the hub something is answered where they may hear it, and nobody else is: an
// agent that has its answer sent to another one's subject says something there.
func TestSubjects_AnswersGoToWhoAsks(t *testing.T) {
	h := opened(t)
	h.runs(t, h.configure)
	asks, err := dial(h, "gw-1", enrol(t, h, "gw-1"))
	check(t, err)
	defer asks.Close()
	other, err := dial(h, "gw-2", enrol(t, h, "gw-2"))
	check(t, err)
	defer other.Close()
	_, theirs := own("graz", "gw-2")
	theirs = append(theirs, subject.Nudge("graz", "gw-2"))
	var hears []*nats.Subscription
	for _, s := range theirs {
		sub, err := other.SubscribeSync(s)
		check(t, err)
		hears = append(hears, sub)
	}
	check(t, other.FlushTimeout(10*time.Second))
	for _, ask := range []string{subject.Resume("graz", "gw-1"), subject.Renew("graz", "gw-1"), subject.Configuration("graz", "gw-1")} {
		for _, reply := range append(theirs, "_INBOX.gw-10.x", subject.Ingest("graz", "gw-2", subject.Live)) {
			if !strings.ContainsAny(reply, "*>") {
				check(t, asks.PublishRequest(ask, reply, []byte("{}")))
			}
		}
		until(t, 10*time.Second, "the hub answers "+ask, func() bool { // what was asked before is answered, too
			_, err := asks.Request(ask, []byte("{}"), time.Second)
			return err == nil
		})
	}
	check(t, other.FlushTimeout(10*time.Second))
	for i, sub := range hears {
		for n, _, err := sub.Pending(); n > 0 || err != nil; n, _, err = sub.Pending() {
			m, err := sub.NextMsg(time.Second)
			check(t, err)
			if m.Subject != subject.Receipt("graz", "gw-2") { // its own come by themselves
				t.Errorf("another agent hears %q at %s", m.Data, theirs[i])
			}
			if r, err := wire.DecodeReceipt(m.Data); err == nil && r.Have.Through.Log != "" && r.Have.Through.Log != mesh.LogID(subject.AgentLog("graz", "gw-2")) {
				t.Errorf("another agent hears a receipt for %s", r.Have.Through.Log)
			}
		}
	}
}

// ordinary are the subjects that neither the server answers, nor a stream keeps.
func ordinary() []string {
	return slices.DeleteFunc(everySubject(), func(s string) bool { return strings.HasPrefix(s, "$") || strings.HasPrefix(s, "ingest.") })
}

// denials are what the server refuses. Safe for concurrent use.
type denials struct {
	mu  sync.Mutex
	all map[string]bool
}

func (d *denials) take(_ *nats.Conn, _ *nats.Subscription, err error) {
	_, rest, ok := strings.Cut(err.Error(), "Violation for ")
	if what, after, quoted := strings.Cut(rest, ` to "`); ok && quoted {
		subj, _, _ := strings.Cut(after, `"`)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.all == nil {
			d.all = map[string]bool{}
		}
		d.all[what+" "+subj] = true
	}
}

func (d *denials) has(what, subj string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all[what+" "+subj]
}

// last is a subject that is nobody's: once it is refused, so is all that was before it.
const last = "last"

// said has somebody say everything, and looks what comes of it.
func said(t *testing.T, h *hub, who string, nc *nats.Conn, d *denials, may []string) {
	t.Helper()
	mark := "said by " + who
	got, beside := listening(t, h.conn, ">", mark), listening(t, h.domain, ">", mark)
	for _, s := range append(everySubject(), last) {
		check(t, nc.Publish(s, []byte(mark)))
	}
	check(t, nc.FlushTimeout(10*time.Second))
	until(t, 10*time.Second, "the last is refused", func() bool { return d.has("Publish", last) })
	could := append(got(), beside()...)
	for _, s := range everySubject() {
		if !d.has("Publish", s) {
			could = append(could, s)
		}
	}
	compare(t, who+" says", could, may)
}

// heard has somebody listen to everything, one pattern after the other, while the hub says
// everything.
func heard(t *testing.T, h *hub, who string, nc *nats.Conn, d *denials, may, deaf []string) {
	t.Helper()
	var open []string
	for _, p := range patterns() {
		mark := fmt.Sprintf("for %s at %s", who, p)
		got := listening(t, nc, p, mark)
		check(t, nc.FlushTimeout(10*time.Second))
		for _, hub := range []*nats.Conn{h.conn, h.domain} {
			for _, s := range ordinary() {
				check(t, hub.Publish(s, []byte(mark)))
			}
			check(t, hub.FlushTimeout(10*time.Second))
		}
		if what := got(); len(what) > 0 {
			open = append(open, p)
			if slices.Contains(deaf, p) {
				t.Errorf("%s hears %q at %s", who, what, p)
			}
		}
	}
	listening(t, nc, last, "")
	until(t, 10*time.Second, "the last is refused", func() bool { return d.has("Subscription", last) })
	for _, p := range patterns() {
		if !d.has("Subscription", p) {
			open = append(open, p)
		}
	}
	compare(t, who+" hears", open, may)
}

// listening hears what is marked so; what it gives ends it.
func listening(t *testing.T, nc *nats.Conn, pattern, mark string) (heard func() []string) {
	t.Helper()
	var mu sync.Mutex
	var got []string
	sub, err := nc.Subscribe(pattern, func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if string(m.Data) == mark {
			got = append(got, m.Subject)
		}
	})
	check(t, err)
	check(t, nc.FlushTimeout(10*time.Second))
	return func() []string {
		check(t, nc.FlushTimeout(10*time.Second)) // what was said before has come
		if sub.IsValid() {
			check(t, sub.Drain())
		}
		for end := time.Now().Add(10 * time.Second); sub.IsValid(); <-time.After(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not all is heard")
			}
		}
		mu.Lock()
		defer mu.Unlock()
		return got
	}
}

// compare holds what is so against what should be.
func compare(t *testing.T, what string, is, want []string) {
	t.Helper()
	slices.Sort(is)
	is = slices.Compact(is)
	for _, s := range is {
		if !slices.Contains(want, s) {
			t.Errorf("%s %s", what, s)
		}
	}
	for _, s := range want {
		if !slices.Contains(is, s) {
			t.Errorf("control: %s %s not", what, s)
		}
	}
}
