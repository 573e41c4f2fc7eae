package opcua

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// noon is the first instant of these tests.
const noon = mesh.Nanos(1_750_000_000_000_000_000)

func TestValue_Convert(t *testing.T) {
	for _, c := range []struct {
		raw  any
		want mesh.Type
		out  string // of the value, or "!" and part of the error
	}{
		{int32(-5), mesh.TypeInt, "int -5"},
		{uint16(5), mesh.TypeInt, "int 5"},
		{uint64(math.MaxUint64), mesh.TypeInt, "!where the configuration says int"},
		{int8(-1), mesh.TypeUint, "!where the configuration says uint"},
		{int32(7), mesh.TypeDouble, "double 7"},
		{int64(1<<53 + 1), mesh.TypeDouble, "!where"},
		{float32(0.5), mesh.TypeDouble, "double 0.5"},
		{math.NaN(), mesh.TypeDouble, "double NaN"},
		{3.0, mesh.TypeInt, "int 3"},
		{3.5, mesh.TypeInt, "!a double (3.5)"},
		{true, mesh.TypeBool, "bool true"},
		{true, mesh.TypeDouble, "!where"},
		{"x\xff", mesh.TypeString, "string x\uFFFD"},
		{"7", mesh.TypeInt, "!where"},
		{strings.Repeat("x", wire.MaxText+1), mesh.TypeString, "!at most 65536"},
		{[]byte{1}, mesh.TypeBytes, "bytes \x01"},
		{noon.Time(), mesh.TypeString, "string " + noon.Time().Format(time.RFC3339Nano)},
		{ua.NewLocalizedText("stop"), mesh.TypeString, "string stop"},
		{[]int32{1, 2}, mesh.TypeInt, "!an array of 2"},
		{&ua.DataValue{}, mesh.TypeInt, "!no value at all"},
	} {
		in := message(t, 1, noon, &ua.DataValue{Value: ua.MustVariant(c.raw), SourceTimestamp: noon.Time()})
		var s mesh.Sample
		err := new(Reader).sample(&s, wanted{kind: c.want}, &in.Values[0], noon)
		got := s.Value.Type.String() + " " + s.Value.String()
		if err != nil {
			got = "!" + err.Error()
		}
		if want, bad := strings.CutPrefix(c.out, "!"); bad && (err == nil || !strings.Contains(got, want)) || !bad && got != c.out {
			t.Errorf("%T %.20v as %s: %.80s, want %s", c.raw, c.raw, c.want, got, c.out)
		}
	}
}

func TestValue_TimeAndStatus(t *testing.T) {
	one := ua.MustVariant(int32(1))
	for _, c := range []struct {
		name  string
		v     *ua.DataValue
		time  mesh.Nanos
		flags uint32
		bad   bool
	}{
		{"source", &ua.DataValue{Value: one, SourceTimestamp: noon.Time(), ServerTimestamp: (noon + 5).Time()}, noon, 0, false},
		{"server", &ua.DataValue{Value: one, ServerTimestamp: noon.Time()}, noon, 0, false},
		{"agent", &ua.DataValue{Value: one}, noon + 9, mesh.FlagAgentTime, false},
		{"before all time", &ua.DataValue{Value: one}, noon + 9, mesh.FlagAgentTime, false},
		{"after all time", &ua.DataValue{Value: one}, noon + 9, mesh.FlagAgentTime, false},
		{"bad without value", &ua.DataValue{Status: ua.StatusBadNoData, SourceTimestamp: noon.Time()}, noon, 0, false},
		{"good without value", &ua.DataValue{SourceTimestamp: noon.Time()}, noon, 0, true},
	} {
		in := message(t, 1, noon, c.v)
		switch c.name { // the library can't write them
		case "before all time":
			in.Values[0].Source = 10_000_000
		case "after all time":
			in.Values[0].Source = math.MaxInt64
		}
		var s mesh.Sample
		err := new(Reader).sample(&s, wanted{kind: mesh.TypeInt}, &in.Values[0], noon+9)
		if s.Time != c.time || s.Flags != c.flags || (err != nil) != c.bad {
			t.Errorf("%s: %+v, %v", c.name, s, err)
		}
	}
}

// ticks is an instant as it stands on the wire.
func ticks(at mesh.Nanos) int64 { return int64(at)/100 + 116_444_736_000_000_000 }

// message is what a server sends: a notification with these values of one item.
func message(t *testing.T, seq uint32, at mesh.Nanos, values ...*ua.DataValue) *channel.Answer {
	t.Helper()
	d := &ua.DataChangeNotification{}
	for _, v := range values {
		v.UpdateMask()
		d.MonitoredItems = append(d.MonitoredItems, &ua.MonitoredItemNotification{ClientHandle: 7 << 16, Value: v})
	}
	b, err := ua.Encode(&ua.RepublishResponse{
		ResponseHeader: &ua.ResponseHeader{ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)},
		NotificationMessage: &ua.NotificationMessage{
			SequenceNumber: seq, PublishTime: at.Time(), NotificationData: []*ua.ExtensionObject{ua.NewExtensionObject(d)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	in := &channel.Answer{}
	if err := in.DecodeRepublish(b); err != nil {
		t.Fatal(err)
	}
	return in
}

// pulse is a keep-alive.
func pulse(seq uint32, at mesh.Nanos) notice {
	return notice{in: &channel.Answer{Message: publish.Message{Sequence: seq, Time: ticks(at)}}}
}

func TestSequence(t *testing.T) {
	n := func(seq uint32) notice {
		return notice{in: &channel.Answer{Message: publish.Message{Sequence: seq, Data: 1}}}
	}
	for _, c := range []struct {
		name string
		next uint32
		in   []notice
		want string
	}{
		{"in order", 1, []notice{n(1), n(2), pulse(3, noon)}, "1 2 ~3"},
		{"swapped", 1, []notice{n(2), n(1), n(3)}, "1 2 3"},
		{"doubled", 1, []notice{n(1), n(1), n(2), n(1)}, "1 2"},
		{"old", 5, []notice{n(4), n(5)}, "5"},
		{"hole", 1, []notice{n(1), n(3), n(4)}, "1"},
		{"keep-alive waits for the message before it", 1, []notice{pulse(3, noon), n(1), n(2)}, "1 2 ~3"},
		{"keep-alive before a hole stays", 1, []notice{pulse(3, noon), n(1)}, "1"},
		{"late keep-alive is good", 5, []notice{pulse(3, noon)}, "~3"},
		{"only the latest keep-alive", 5, []notice{pulse(6, noon+1), pulse(5, noon), n(5)}, "5 ~6"},
		{"wrap", math.MaxUint32, []notice{n(1), n(math.MaxUint32), pulse(2, noon)}, "4294967295 1 ~2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := newSequence(c.next)
			var got []string
			for _, x := range c.in {
				q.put(x)
				for {
					y, ok := q.take()
					if !ok {
						break
					}
					mark := ""
					if y.alive() {
						mark = "~"
					}
					got = append(got, mark+strconv.FormatUint(uint64(y.in.Sequence), 10))
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		})
	}
}

func TestSequence_Missing(t *testing.T) {
	q, now := newSequence(1), time.Unix(1000, 0)
	if q.missing(now, 3) {
		t.Error("nothing came, nothing is missing")
	}
	q.put(pulse(2, noon))
	if q.missing(now, 3) {
		t.Error("missing at once")
	}
	if !q.missing(now.Add(missingGrace), 3) {
		t.Error("not missing after the grace")
	}
	for seq := uint32(2); seq < 7; seq++ {
		q.put(notice{in: &channel.Answer{Message: publish.Message{Sequence: seq, Data: 1}}})
	}
	if q = q.fork(); !q.missing(now, 3) {
		t.Error("not missing with five later ones waiting")
	}
}

// fork is q without its patience.
func (q *sequence) fork() *sequence {
	return &sequence{next: q.next, waiting: q.waiting, pulse: q.pulse}
}

func TestAcks(t *testing.T) {
	var a acks
	a.reset()
	a.add(1, 2)
	first := a.send()
	if len(first) != 2 || a.any() {
		t.Fatalf("sent %v", first)
	}
	a.add(1, 3) // 1 is on its way
	if again := a.send(); len(again) != 1 || again[0] != 3 {
		t.Errorf("sent %v", again)
	}
	a.sent(first, false)
	if again := a.send(); len(again) != 2 {
		t.Errorf("after a failure %v were sent", again)
	} else {
		a.sent(again, true)
	}
	if a.any() {
		t.Error("something is left")
	}
	for i := range uint32(maxAcks + 10) {
		a.add(i + 10)
	}
	if n := len(a.send()); n != maxAcks {
		t.Errorf("%d acknowledgements in one request", n)
	}
}

// spool is a source.Log that keeps everything at once.
type spool struct {
	t     *testing.T
	dec   *wire.Decoder
	n     uint64
	lines []string
	notes []string
	said  string
	state []byte
	told  func(t *testing.T, x mesh.Sample) string // shows an event
}

func (s *spool) Tell(text string) { s.said = text }

func (s *spool) Append(_ context.Context, o mesh.Offer) (uint64, error) {
	for _, b := range o.Sealed {
		h, err := wire.ParseHeader(b)
		if err != nil {
			s.t.Fatal(err)
		}
		if h.Kind == mesh.KindVoid {
			v, err := wire.OpenVoid(b)
			if err != nil {
				s.t.Fatal(err)
			}
			p := v.Parts[0]
			s.lines = append(s.lines, fmt.Sprintf("%s %s-%s %d", v.Cause, second(p.Times.From), second(p.Times.To), p.Count))
			s.notes = append(s.notes, v.Note)
			continue
		}
		batch, err := s.dec.Batch(b)
		if err != nil {
			s.t.Fatal(err)
		}
		var line strings.Builder
		fmt.Fprintf(&line, "%s-%s:", second(batch.Proven.From), second(batch.Proven.To))
		for _, x := range batch.Samples {
			text := x.Value.String()
			if x.Value.Type == mesh.TypeEvent {
				text = s.told(s.t, x)
			}
			line.WriteString(" " + text)
			if x.Status.IsBad() {
				fmt.Fprintf(&line, "!%08x", uint32(x.Status))
			}
			if x.Flags&mesh.FlagInitial != 0 {
				line.WriteString("i")
			}
			if x.Flags&mesh.FlagSuspect != 0 {
				line.WriteString("?")
			}
		}
		s.lines = append(s.lines, line.String())
	}
	s.n, s.state = s.n+1, o.State
	return s.n, nil
}

func (s *spool) Committed(context.Context, uint64) (uint64, error) { return s.n, nil }

// second is an instant as seconds after noon.
func second(n mesh.Nanos) string {
	if n == 0 {
		return "0"
	}
	return fmt.Sprint(n.Sub(noon).Seconds())
}

// stepped is a reader without a server, as after create or a restart.
func stepped(t *testing.T, resume []byte) (*Reader, *spool) {
	t.Helper()
	r, err := New(config(), func() mesh.Nanos { return noon.Add(time.Hour) }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if r.state, err = decodeState(resume); err != nil {
		t.Fatal(err)
	}
	if r.sealer, err = source.NewSealer(r.cfg.Window, r.cfg.ID, r.table); err != nil {
		t.Fatal(err)
	}
	r.sealer.Resume(r.state.Proof, r.state.Holes...)
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	s := &spool{t: t, dec: dec}
	r.out, r.order = s, newSequence(after(r.state.Seq))
	r.acks.reset()
	r.state.Incarnation = 7
	if resume == nil {
		r.state.Fresh, r.initial = true, []bool{true, true}
	}
	return r, s
}

// message carries values of signal a, stamped s seconds after noon.
func (r *Reader) message(t *testing.T, seq uint32, s float64, more bool, values ...any) notice {
	t.Helper()
	at := noon.Add(time.Duration(s * float64(time.Second)))
	var all []*ua.DataValue
	for _, v := range values {
		all = append(all, &ua.DataValue{Value: ua.MustVariant(v), SourceTimestamp: at.Time()})
	}
	n := notice{more: more, in: message(t, seq, at, all...)}
	for i := range n.in.Values {
		n.in.Values[i].Handle = r.state.handle(0, 0)
	}
	return n
}

func (r *Reader) step(t *testing.T, notices ...notice) {
	t.Helper()
	for _, n := range notices {
		r.order.put(n)
		if err := r.deliver(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestReader_Proof(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(r *Reader) []notice
		want string
	}{
		{"first message begins, keep-alive proves", func(r *Reader) []notice {
			return []notice{r.message(t, 1, 0, false, int32(1)), pulse(2, noon.Add(20*time.Second))}
		}, "0-15: 1i"},
		{"more waiting proves nothing", func(r *Reader) []notice {
			return []notice{r.message(t, 1, 0, true, int32(1)), r.message(t, 2, 30, true, int32(2))}
		}, "0-0: 1i 2"},
		{"a keep-alive before a hole proves nothing", func(r *Reader) []notice {
			return []notice{r.message(t, 1, 0, false, int32(1)), pulse(3, noon.Add(20*time.Second))}
		}, "0-0: 1i"},
		{"a clock decades behind proves nothing until it is set", func(r *Reader) []notice {
			return []notice{
				pulse(1, noon.Add(-25*source.MaxBehind)), r.message(t, 1, 0, false, int32(1)), pulse(2, noon.Add(20*time.Second)),
			}
		}, "0-15: 1i"},
		{"no clock", func(r *Reader) []notice {
			n := r.message(t, 1, 0, false, int32(1))
			n.in.Time = 0
			return []notice{n}
		}, "0-0: 1i"},
		{"only the answer is stamped", func(r *Reader) []notice {
			n, p := r.message(t, 1, 0, false, int32(1)), pulse(2, noon.Add(20*time.Second))
			n.in.Time, n.in.Sent, p.in.Time, p.in.Sent = 0, n.in.Time, 0, p.in.Time
			return []notice{n, p}
		}, "0-15: 1i"},
		{"a clock of the year 2185", func(r *Reader) []notice {
			return []notice{r.message(t, 1, 0, false, int32(1)), pulse(2, noon.Add(160*365*24*time.Hour)), pulse(2, noon.Add(10*time.Second))}
		}, "0-5: 1i"},
		{"unreadable values are counted and cost no time", func(r *Reader) []notice {
			return []notice{r.message(t, 1, 0, false, int32(1), "x", []int32{1, 2}), pulse(2, noon.Add(20*time.Second))}
		}, "0-15: 1i !80740000 !80740000; unreadable 0-0 2"},
		{"after an unreadable value the one before does not hold", func(r *Reader) []notice {
			return []notice{r.message(t, 1, 0, false, int32(6)), r.message(t, 2, 10, false, "ABORTED"), r.message(t, 3, 20, false, int32(6)), pulse(4, noon.Add(30*time.Second))}
		}, "0-25: 6i !80740000 6; unreadable 10-10 1"},
		{"a clock a day ahead proves nothing", func(r *Reader) []notice {
			return []notice{r.message(t, 1, 0, false, int32(6)), pulse(2, noon.Add(24*time.Hour)), r.message(t, 2, 10, false, int32(2)), pulse(3, noon.Add(20*time.Second))}
		}, "0-15: 6i 2"},
		{"a stamp years ahead is suspect and hides no overflow", func(r *Reader) []notice {
			bad := r.message(t, 2, 5*365*86400, false, int32(7))
			bad.in.Time = ticks(noon.Add(3 * time.Second))
			n := r.message(t, 3, 100, false, int32(2))
			n.in.Values[0].Status = uint32(mesh.StatusOverflow)
			return []notice{r.message(t, 1, 2, false, int32(1)), bad, n, pulse(4, noon.Add(130*time.Second))}
		}, "100-125: 1i 7? 2; overflow 2-100 0"},
		{"an overflow beside a stamp years ahead ends now", func(r *Reader) []notice {
			n := r.message(t, 2, 5*365*86400, false, int32(2))
			n.in.Time = ticks(noon.Add(3 * time.Second))
			n.in.Values[0].Status = uint32(mesh.StatusOverflow)
			return []notice{r.message(t, 1, 2, false, int32(1)), n, pulse(3, noon.Add(130*time.Second))}
		}, "0-0: 1i 2?; overflow 2-3600 0"},
		{"overflow", func(r *Reader) []notice {
			n := r.message(t, 2, 10, false, int32(2))
			n.in.Values[0].Status = uint32(mesh.StatusOverflow)
			return []notice{r.message(t, 1, 2, false, int32(1)), n, pulse(3, noon.Add(30*time.Second))}
		}, "10-25: 1i 2; overflow 2-10 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, log := stepped(t, nil)
			r.step(t, c.do(r)...)
			if got := strings.Join(log.lines, "; "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestReader_RestartGoesOn(t *testing.T) {
	r, log := stepped(t, nil)
	r.step(t, r.message(t, 1, 0, false, int32(1)), r.message(t, 2, 10, false, int32(2)))
	r, again := stepped(t, log.state)
	if r.order.next != 3 {
		t.Fatalf("goes on with message %d", r.order.next)
	}
	r.step(t, r.message(t, 2, 10, true, int32(2)), r.message(t, 3, 12, true, int32(3)), pulse(4, noon.Add(20*time.Second)))
	if got, want := strings.Join(append(log.lines, again.lines...), "; "), "0-5: 1i 2; 5-15: 3"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReader_NewSubscriptionVoidsWhatLiesBetween(t *testing.T) {
	r, log := stepped(t, nil)
	r.step(t, r.message(t, 1, 0, false, int32(1)), r.message(t, 2, 10, false, int32(2)))
	r, again := stepped(t, log.state)
	r.order, r.state.Fresh, r.initial[0] = newSequence(1), true, true
	r.step(t, r.message(t, 1, 100, false, int32(9)), pulse(2, noon.Add(120*time.Second)))
	if got, want := strings.Join(again.lines, "; "), "100-115: 9i; disconnected 5-100 0"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestReader_Echo: what a server says again after a connection is no change; what
// comes at the same instant later is.
func TestReader_Echo(t *testing.T) {
	r, log := stepped(t, nil)
	r.step(t, r.message(t, 1, 0, false, int32(1)), r.message(t, 2, 10, false, int32(2)))
	r.echo = true
	r.step(t, r.message(t, 3, 10, true, int32(2)), r.message(t, 4, 12, false, int32(3)), r.message(t, 5, 12, false, int32(4)))
	if got, want := strings.Join(log.lines, "; "), "0-5: 1i 2; 5-7: 2i 3 4"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestReader_StatusChange: that the subscription came to this session is no end of
// it; every other change is.
func TestReader_StatusChange(t *testing.T) {
	r, log := stepped(t, nil)
	moved := notice{in: &channel.Answer{Message: publish.Message{Sequence: 2, Time: ticks(noon.Add(5 * time.Second)), Data: 1, Status: []uint32{uint32(ua.StatusGoodSubscriptionTransferred)}}}}
	r.step(t, r.message(t, 1, 0, false, int32(1)), moved, r.message(t, 3, 10, false, int32(2)), pulse(4, noon.Add(20*time.Second)))
	if got, want := strings.Join(log.lines, "; "), "0-15: 1i 2"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	moved.in.Sequence, moved.in.Status[0] = 4, uint32(ua.StatusBadTimeout)
	r.order.put(moved)
	if err := r.deliver(t.Context()); !errors.Is(err, errGone) {
		t.Errorf("after a timeout: %v", err)
	}
}

func TestReader_ForeignHandle(t *testing.T) {
	r, _ := stepped(t, nil)
	n := r.message(t, 1, 0, false, int32(1))
	r.state.Incarnation = 8
	r.state.Subscription = 5
	r.order.put(n)
	if err := r.deliver(t.Context()); err == nil || !strings.Contains(err.Error(), "somebody else") || r.state.Subscription != 0 {
		t.Errorf("error %v, subscription %d", err, r.state.Subscription)
	}
}

// The place of a sample has the sample before in it.
func TestReader_SampleOverwritesWhatWasThere(t *testing.T) {
	r, _ := stepped(t, nil)
	for _, v := range []publish.Value{{}, {Type: publish.TypeDouble, Bits: 7}, {Type: publish.TypeDouble, Bits: 7, Source: 1 << 57, Server: 1<<57 + 1, Status: 1 << 30}, {Type: publish.TypeString, Bytes: []byte("a")}} {
		was := mesh.Sample{Signal: 9, Time: 9, Source: 9, Server: 9, Agent: 9, Seq: 9, Status: 9, Flags: 9, Value: mesh.Value{Type: 9, Bits: 9, Bytes: []byte("9")}}
		var fresh mesh.Sample
		_, _ = r.sample(&was, r.wants[0], &v, 5), r.sample(&fresh, r.wants[0], &v, 5) // an error is a sample too
		if !reflect.DeepEqual(was, fresh) {
			t.Errorf("%+v: %+v, in an empty place %+v", v, was, fresh)
		}
	}
}
