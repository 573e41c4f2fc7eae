package attack

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/hub"
	"plantmesh/cloud/registry"
	"plantmesh/proto/enroll"
	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// invite makes a one-time key.
func (r *rig) invite(t *testing.T, i registry.Invite) (registry.Invite, string) {
	t.Helper()
	i.Created = time.Now()
	if i.Expires.IsZero() {
		i.Expires = i.Created.Add(time.Hour)
	}
	if i.Uses == 0 {
		i.Uses = 1
	}
	made, secret, err := hub.Invite(r.cfg, i)
	check(t, err)
	r.keep(secret)
	return made, secret
}

// guesses are 10,000 where this is run by itself, and few beside all other tests.
func guesses() int {
	if os.Getenv("PLANTMESH_ATTACK") == "full" {
		return 10_000
	}
	return 300
}

// TestAttack_S01: keys that are used, ended, of other names, or guessed, are all answered alike,
// and whoever guesses is soon not listened to.
func TestAttack_S01(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, used := r.invite(t, registry.Invite{})
	ended, endedKey := r.invite(t, registry.Invite{})
	_, err := hub.EndInvite(r.cfg, ended.ID, "", time.Now())
	check(t, err)
	_, other := r.invite(t, registry.Invite{Prefix: "vienna-"})
	end := time.Now().Add(50 * time.Millisecond)
	_, short := r.invite(t, registry.Invite{Expires: end})
	until(t, "the short key has ended", func() bool { return time.Now().After(end) })
	if status, a := r.knock(t, "127.0.2.1", newGateway(t).request(t, "gw-1", used)); status != http.StatusOK || a.State != enroll.Approved {
		t.Fatalf("control: a key that is good is answered %d %+v", status, a)
	}
	said := map[string]bool{}
	for i, key := range []string{used, endedKey, other, short, "pmk-" + strings.Repeat("a", 32)} {
		status, a := r.knock(t, fmt.Sprintf("127.0.2.%d", 10+i), newGateway(t).request(t, "gw-2", key))
		if status == http.StatusOK && a.State == enroll.Approved {
			t.Errorf("key %d lets in", i)
		}
		said[fmt.Sprint(status, a.State, a.Why, a.Retry)] = true
	}
	if len(said) != 1 {
		t.Errorf("keys that are none are told apart: %v", said)
	}
	all := guesses()
	c := r.client("127.0.2.200")
	defer c.CloseIdleConnections()
	g := newGateway(t)
	by := map[int]int{}
	began := time.Now()
	for i := range all {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.page+enroll.Path, strings.NewReader(g.request(t, "gw-3", fmt.Sprintf("pmk-%032d", i))))
		check(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := c.Do(req)
		check(t, err)
		check(t, resp.Body.Close())
		by[resp.StatusCode]++
	}
	if looked := all - by[http.StatusTooManyRequests]; looked > 60+int(time.Since(began)/time.Second) {
		t.Errorf("of %d guesses in %s %d were looked at: %v", all, time.Since(began), looked, by)
	}
}

// s02: of many that come with one key at once, one gets in.
func s02(t *testing.T, r *rig) {
	t.Helper()
	_, key := r.invite(t, registry.Invite{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	in := 0
	for i := range 20 {
		q := newGateway(t).request(t, fmt.Sprintf("s02-%d", i), key)
		wg.Go(func() {
			if status, a := r.knock(t, fmt.Sprintf("127.0.3.%d", i+1), q); status == http.StatusOK && a.State == enroll.Approved {
				mu.Lock()
				in++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	agents, err := r.reg.Agents()
	check(t, err)
	agents = slices.DeleteFunc(agents, func(a registry.Agent) bool { return !strings.HasPrefix(a.Name, "s02-") })
	if in != 1 || len(agents) != 1 {
		t.Errorf("%d were let in, %d agents are enrolled, want 1", in, len(agents))
	}
}

// s03: a reply that was lost is had again with the same key pair; another one gets
// nothing of it.
func s03(t *testing.T, r *rig) {
	t.Helper()
	one, key := r.invite(t, registry.Invite{})
	two, second := r.invite(t, registry.Invite{})
	g := newGateway(t)
	for range 2 {
		if _, a := r.knock(t, "127.0.4.1", g.request(t, "s03-1", key)); a.State != enroll.Approved || a.Token == "" {
			t.Errorf("the same key pair: %+v", a)
		}
	}
	for name, k := range map[string]string{"with the used key": key, "with a good key": second} {
		if status, a := r.knock(t, "127.0.4.1", newGateway(t).request(t, "s03-1", k)); status == http.StatusOK && a.State == enroll.Approved {
			t.Errorf("another key pair takes the name %s", name)
		}
	}
	keys, err := hub.Invites(r.cfg)
	check(t, err)
	n := 0
	for _, k := range keys {
		if k.ID == one.ID || k.ID == two.ID {
			n += len(k.Used)
		}
	}
	if n != 1 {
		t.Errorf("%d uses are counted", n)
	}
}

// s04: an agent says and hears what is its own, and nothing else.
func s04(t *testing.T, r *rig) {
	t.Helper()
	subjects(t, r, r.nats, "s04-1", "s04-2")
}

// s04w is s04 over WebSocket.
func s04w(t *testing.T, r *rig) {
	t.Helper()
	subjects(t, r, r.ws, "s04w-1", "s04w-2")
}

func subjects(t *testing.T, r *rig, at, own, other string) {
	t.Helper()
	_, as := r.enrolled(t, own)
	r.enrolled(t, other)
	var mu sync.Mutex
	denied := map[string]bool{}
	nc, err := r.dialAt(t, at, own, as, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		mu.Lock()
		defer mu.Unlock()
		denied[err.Error()] = true
	}))
	check(t, err)
	defer nc.Close()
	was := func(text string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			for d := range denied {
				if strings.Contains(d, text) {
					return true
				}
			}
			return false
		}
	}
	for _, s := range []string{
		subject.Ingest("graz", other, subject.Live), subject.Ingest("wien", own, subject.Live), subject.Ingest("graz", own, "other.deep"),
		"$JS.API.STREAM.DELETE.INGEST", "$JS.API.STREAM.LIST", "$JS.API.STREAM.MSG.DELETE.INGEST", "$JS.ACK.INGEST.x.1.1.1.1.1", "$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.SERVER.PING",
		subject.Receipt("graz", own), subject.Receipt("graz", other), subject.Renew("graz", other), subject.Resume("graz", other), subject.Configuration("graz", other), subject.Nudge("graz", own), "_INBOX." + other + ".x", subject.Canary,
		subject.Product("production", "oee", "1", "graz", "line1", "line1-press"), "gap.v1.graz." + own, "q.v1.graz", "plain",
	} {
		check(t, nc.Publish(s, []byte("x")))
		check(t, nc.FlushTimeout(within))
		until(t, "publishing "+s+" is refused", was(fmt.Sprintf("Publish to %q", s)))
	}
	for _, s := range []string{
		">", "*", "ingest.v1.>", "ctl.v1.>", "ctl.v1.graz.*.receipt", subject.Receipt("graz", other), subject.Nudge("graz", other), subject.Ingest("graz", other, subject.Live),
		"_INBOX.>", "_INBOX." + other + ".>", "$JS.API.>", "$JS.EVENT.>", "$SYS.>", "dp.v1.>", "gap.v1.>", "q.v1.>",
	} {
		_, err := nc.SubscribeSync(s)
		check(t, err)
		check(t, nc.FlushTimeout(within))
		until(t, "hearing "+s+" is refused", was(fmt.Sprintf("Subscription to %q", s)))
	}
	for range 5_000 { // who tries on and on leaves few lines
		check(t, nc.Publish("$SYS.REQ.SERVER.PING", nil))
	}
	check(t, nc.FlushTimeout(within))
	if n := strings.Count(r.said.String(), "it was refused"); n == 0 || n > 100 {
		t.Errorf("the hub's log has %d lines of it", n)
	}
	mu.Lock()
	clear(denied)
	mu.Unlock()
	_, err = nc.SubscribeSync(subject.Receipt("graz", own)) // control
	check(t, err)
	check(t, nc.Publish(subject.Ingest("graz", own, subject.Live), nil))
	check(t, nc.FlushTimeout(within))
	_, err = nc.Request(subject.Renew("graz", own), nil, within)
	check(t, err)
	mu.Lock()
	defer mu.Unlock()
	for d := range denied { // others may still come in
		if strings.Contains(d, "."+own+".") || strings.Contains(d, "_INBOX."+own+".") {
			t.Errorf("what is its own is refused: %s", d)
		}
	}
}

// s05: one that is revoked is cut off within five seconds and does not come back;
// another stays.
func s05(t *testing.T, r *rig) {
	t.Helper()
	revoked(t, r, r.nats, "s05-1", "s05-2")
}

// s05w is s05 over WebSocket.
func s05w(t *testing.T, r *rig) {
	t.Helper()
	revoked(t, r, r.ws, "s05w-1", "s05w-2")
}

func revoked(t *testing.T, r *rig, at, own, other string) {
	t.Helper()
	_, as := r.enrolled(t, own)
	_, beside := r.enrolled(t, other)
	closed := make(chan struct{})
	nc, err := r.dialAt(t, at, own, as, nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	check(t, err)
	defer nc.Close()
	stays, err := r.dialAt(t, at, other, beside)
	check(t, err)
	defer stays.Close()
	_, err = hub.Revoke(r.cfg, "graz", own, "", time.Now())
	check(t, err)
	began := time.Now()
	select {
	case <-closed:
		t.Logf("cut off after %s", time.Since(began).Round(time.Millisecond))
	case <-time.After(5 * time.Second):
		t.Error("the connection of a revoked key is open after 5 s")
	}
	if again, err := r.dialAt(t, at, own, as); err == nil {
		again.Close()
		t.Error("a revoked key is accepted")
	}
	if !stays.IsConnected() || stays.Stats().Reconnects > 0 {
		t.Error("another agent lost its connection")
	}
}

// sender is an agent that says what it likes.
type sender struct {
	t    *testing.T
	r    *rig
	name string
	of   string // the token of who reads
	as   string // the equipment
	js   jetstream.JetStream
	sub  *nats.Subscription
	enc  *wire.Encoder
	desc mesh.Descriptor
	open []byte
}

func newSender(t *testing.T, r *rig, name, line string) *sender {
	t.Helper()
	_, as := r.enrolled(t, name)
	nc, err := r.dial(t, name, as)
	check(t, err)
	t.Cleanup(nc.Close)
	s := &sender{t: t, r: r, name: name, as: line + "-press", of: r.person(t, "viewer").token}
	s.js, err = jetstream.New(nc)
	check(t, err)
	s.sub, err = nc.SubscribeSync(subject.Receipt("graz", name))
	check(t, err)
	s.enc, err = wire.NewEncoder()
	check(t, err)
	s.desc, err = wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: line + ".press.speed", Type: mesh.TypeDouble}, {ID: 2, Name: line + ".press.order", Type: mesh.TypeString}})
	check(t, err)
	s.open, err = wire.SealOpening(mesh.Opening{})
	check(t, err)
	return s
}

// batch is a sealed batch of one value.
func (s *sender) batch(v float64) []byte { return s.sealed(1, mesh.Double(v)) }

func (s *sender) sealed(signal uint32, v mesh.Value) []byte {
	s.t.Helper()
	now := mesh.NanosOf(time.Now())
	b, err := s.enc.Seal(&mesh.Batch{Source: s.as, Table: s.desc.Hash(), Samples: []mesh.Sample{{Signal: signal, Time: now, Value: v}}})
	check(s.t, err)
	return b
}

// send publishes bytes; the stream must take them.
func (s *sender) send(data []byte) {
	s.t.Helper()
	until(s.t, "the stream takes it", func() bool {
		_, err := s.js.Publish(s.t.Context(), subject.Ingest("graz", s.name, subject.Live), data, jetstream.WithRetryAttempts(3))
		return err == nil
	})
}

// through waits until a receipt names a position.
func (s *sender) through(at mesh.Position) {
	s.t.Helper()
	until(s.t, "a receipt names "+fmt.Sprint(at), func() bool {
		m, err := s.sub.NextMsg(time.Second)
		if err != nil {
			return false
		}
		got, err := wire.DecodeReceipt(m.Data)
		check(s.t, err)
		return got.Have.Through == at
	})
}

// rows are the values that the product has.
func (s *sender) rows() (out []string) {
	s.t.Helper()
	a := s.r.ask(s.t, "127.0.8.1", http.MethodGet, "/api/v1/products/signals/rows?fields=value&format=csv&equipment="+s.as, "", by(person{token: s.of}))
	for i, line := range strings.Split(strings.TrimSpace(a.body), "\n") {
		if i > 0 && strings.TrimSpace(line) != "" {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// s08: bytes that come again under another id, of other epochs, and from the far end
// of all numbers: each value is there once, and the agent goes on.
func s08(t *testing.T, r *rig) {
	t.Helper()
	s := newSender(t, r, "s08", "line1")
	at := mesh.Position{Log: mesh.LogID(subject.AgentLog("graz", "s08")), Epoch: mesh.NewEpoch(), Seq: 1}
	nth := func(seq uint64) mesh.Position { p := at; p.Seq = seq; return p }
	first := wire.AppendRecord(wire.AppendDescriptor(nil, s.desc), mesh.Record{At: nth(1), Sealed: s.open})
	first = wire.AppendRecord(first, mesh.Record{At: nth(2), Sealed: s.batch(1)})
	s.send(first)
	s.through(nth(2))
	for range 3 {
		s.send(first) // without an id: the stream takes it as news
	}
	s.send(wire.AppendRecord(nil, mesh.Record{At: nth(2), Sealed: s.batch(666)})) // another value under a known position
	stranger := nth(3)
	stranger.Log = mesh.LogID(subject.AgentLog("graz", "s09"))
	s.send(wire.AppendRecord(nil, mesh.Record{At: stranger, Sealed: s.batch(667)})) // of a log that is not its own
	s.send(wire.AppendRecord(nil, mesh.Record{At: nth(1 << 63), Sealed: s.batch(668)}))
	s.send(wire.AppendRecord(nil, mesh.Record{At: nth(3), Sealed: s.batch(2)}))
	s.through(nth(3))
	until(t, "what was sent rightly is in the product", func() bool { return strings.Contains(strings.Join(s.rows(), " "), "2") })
	var known []string
	for _, v := range s.rows() {
		if v == "666" || v == "667" {
			t.Errorf("a forged value is in the product: %s", v)
		}
		if v == "1" || v == "2" {
			known = append(known, v)
		}
	}
	if len(known) != 2 {
		t.Errorf("the product has %v, want 1 and 2 once each", s.rows())
	}
	t.Logf("rows %v", s.rows())
}

// s09: what is no record, or says what it is not, harms nobody.
func s09(t *testing.T, r *rig) {
	t.Helper()
	s := newSender(t, r, "s09", "line2")
	at := mesh.Position{Log: mesh.LogID(subject.AgentLog("graz", "s09")), Epoch: mesh.NewEpoch(), Seq: 1}
	next := func() mesh.Position { p := at; at.Seq++; return p }
	s.send(wire.AppendRecord(wire.AppendDescriptor(nil, s.desc), mesh.Record{At: next(), Sealed: s.open}))
	good := wire.AppendRecord(nil, mesh.Record{At: next(), Sealed: s.batch(1)})
	junk := make([]byte, 1<<20)
	for i := range junk {
		junk[i] = byte(i * 7919 >> 3)
	}
	wrong := append([]byte{}, good...)
	wrong[len(wrong)-1] ^= 1
	torn := good[:len(good)-3]
	bomb := append([]byte{}, s.batch(5)...)
	for i := len(bomb) / 2; i < len(bomb); i++ {
		bomb[i] = 0xff
	}
	for _, data := range [][]byte{nil, junk, wrong, torn, append(append([]byte{}, good[:8]...), junk[:5000]...), {0xff}, wire.AppendDescriptor(nil, mesh.Descriptor{})} {
		s.send(data)
	}
	s.send(wire.AppendRecord(nil, mesh.Record{At: next(), Sealed: bomb})) // its place is the agent's own: it is damaged, and named
	s.send(good)
	last := next()
	s.send(wire.AppendRecord(nil, mesh.Record{At: last, Sealed: s.batch(2)}))
	until(t, "what was sent rightly is in the product", func() bool { return len(s.rows()) == 2 })
	if got := strings.Join(s.rows(), " "); got != "1 2" {
		t.Errorf("the product has %s", got)
	}
}

// c05: what a machine says is text, wherever it is shown.
func c05(t *testing.T, r *rig) {
	t.Helper()
	s := newSender(t, r, "c05", "line3")
	at := mesh.Position{Log: mesh.LogID(subject.AgentLog("graz", "c05")), Epoch: mesh.NewEpoch(), Seq: 1}
	said := []string{`=HYPERLINK("http://evil.example","order")`, "@SUM(1+1)", "-2+3+cmd|' /C calc'!A0", "<script>alert(1)</script>", "a\r\nSet-Cookie: x=1", "\x1b[2J\x00"}
	data := wire.AppendRecord(wire.AppendDescriptor(nil, s.desc), mesh.Record{At: at, Sealed: s.open})
	for _, text := range said {
		at.Seq++
		data = wire.AppendRecord(data, mesh.Record{At: at, Sealed: s.sealed(2, mesh.Text(text))})
	}
	s.send(data)
	s.through(at)
	get := func(format string) answer {
		return r.ask(t, "127.0.14.1", http.MethodGet, "/api/v1/products/signals/rows?fields=value&equipment="+s.as+"&format="+format, "", by(person{token: s.of}))
	}
	var all [][]string
	until(t, "the texts are in the product", func() (ok bool) {
		var err error
		all, err = csv.NewReader(strings.NewReader(get("csv").body)).ReadAll()
		return err == nil && len(all) == len(said)+1
	})
	for _, row := range all[1:] {
		if strings.ContainsAny(row[0][:1], "=+-@\t\r") {
			t.Errorf("a spreadsheet would run %q", row[0])
		}
	}
	for _, format := range []string{"json", "ndjson"} {
		a := get(format)
		if a.head.Get("Set-Cookie") != "" || !strings.Contains(a.head.Get("Content-Type"), "json") {
			t.Errorf("%s: %v %.300s", format, a.head, a.body)
		}
		if !strings.Contains(a.body, `HYPERLINK`) || strings.Contains(a.body, `'=HYPERLINK`) {
			t.Errorf("control: %s does not give the text as it was: %.300s", format, a.body)
		}
	}
}
