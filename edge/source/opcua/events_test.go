package opcua

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua/channel"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// alarm is an event as a server has it.
type alarm struct {
	kind      uint32 // of the protocol; 0: an alarm
	bare      bool   // told by its kind alone
	id        string
	at        float64 // seconds after noon
	condition string
	active    bool
	retain    bool
	severity  uint16
	message   string
}

func (a alarm) fields() []*ua.Variant {
	kind := ua.NewNumericNodeID(0, a.kind)
	if a.kind == 0 {
		kind = ua.NewNumericNodeID(2, 77)
	}
	at := noon.Add(time.Duration(a.at * float64(time.Second))).Time()
	null := &ua.Variant{}
	f := []*ua.Variant{
		atEventID: ua.MustVariant([]byte(a.id)), atEventType: ua.MustVariant(kind), atSourceNode: ua.MustVariant(ua.NewStringNodeID(1, "press")),
		atSourceName: ua.MustVariant("press"), atTime: ua.MustVariant(at), atReceived: ua.MustVariant(at.Add(time.Second)),
		atMessage: ua.MustVariant(ua.NewLocalizedText(a.message)), atSeverity: ua.MustVariant(a.severity),
		atCondition: null, atConditionName: null, atBranch: ua.MustVariant(ua.NewTwoByteNodeID(0)), atRetain: ua.MustVariant(a.retain),
		atEnabled: ua.MustVariant(true), atActive: ua.MustVariant(a.active), atAcknowledged: null, atConfirmed: ua.MustVariant(int32(1)),
	}
	if a.condition != "" {
		f[atCondition] = ua.MustVariant(ua.NewStringNodeID(1, a.condition))
	}
	return f
}

// listener is stepped with one notifier, c, and a node a.
func listener(t *testing.T, resume []byte) (*Reader, *spool) {
	t.Helper()
	cfg := config()
	cfg.Signals, cfg.Events = cfg.Signals[:1], []Events{{Name: "c", MinSeverity: 10}}
	r, err := New(cfg, func() mesh.Nanos { return noon.Add(time.Hour) }, slog.New(slog.DiscardHandler))
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
	r.ears.spaces.uris = []string{"", "urn:plant", "urn:types"}
	if resume == nil {
		r.state.Fresh, r.state.Events = true, []eventState{{Clauses: 1<<countClauses - 1}}
	}
	return r, s
}

// events is a message with events of c.
func (r *Reader) events(t *testing.T, seq uint32, s float64, all ...alarm) notice {
	t.Helper()
	l := &ua.EventNotificationList{}
	for _, a := range all {
		var asked []*ua.Variant
		if a.bare {
			l.Events = append(l.Events, &ua.EventFieldList{ClientHandle: r.state.handle(1, 0), EventFields: []*ua.Variant{ua.MustVariant(ua.NewNumericNodeID(0, a.kind))}})
			continue
		}
		for place, f := range a.fields() {
			if r.state.Events[0].Clauses&(1<<place) != 0 {
				asked = append(asked, f)
			}
		}
		l.Events = append(l.Events, &ua.EventFieldList{ClientHandle: r.state.handle(1, 0), EventFields: asked})
	}
	b, err := ua.Encode(&ua.RepublishResponse{
		ResponseHeader: &ua.ResponseHeader{ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)},
		NotificationMessage: &ua.NotificationMessage{
			SequenceNumber: seq, PublishTime: noon.Add(time.Duration(s * float64(time.Second))).Time(), NotificationData: []*ua.ExtensionObject{ua.NewExtensionObject(l)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	in := &channel.Answer{}
	if err := in.DecodeRepublish(b); err != nil {
		t.Fatal(err)
	}
	return notice{in: in}
}

func start(at float64) alarm { return alarm{kind: typeRefreshStart, at: at} }
func end(at float64) alarm   { return alarm{kind: typeRefreshEnd, at: at} }

// told shows the event in a sample's body: id, then what is true.
func told(t *testing.T, x mesh.Sample) string {
	t.Helper()
	i, err := wire.ParseItem(x.Value.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for k, f := range (&Events{}).row(0).Fields {
		switch v := i.Items[k].Value; {
		case v.Type != mesh.TypeNone && v.Type != f.Type:
			t.Errorf("field %s is a %s", f.Name, v.Type)
		case f.Name == "event_id":
			id, err := hex.DecodeString(v.String())
			if err != nil {
				t.Error(err)
			}
			text = string(id) + text
		case f.Name == "active" && v.Bits != 0:
			text += "*"
		}
	}
	return text
}

func TestReader_Events(t *testing.T) {
	up := alarm{id: "e1", at: 3, condition: "hot", active: true, retain: true, severity: 500, message: "hot"}
	down := alarm{id: "e2", at: 12, condition: "hot", retain: false, severity: 500, message: "cool"}
	late := alarm{id: "e3", at: 50, condition: "hot", active: true, retain: true, severity: 500}
	plain := alarm{id: "e4", at: 2, severity: 100, message: "door open"}
	for _, c := range []struct {
		name string
		do   func(r *Reader) []notice
		want string
	}{
		{"in order with values", func(r *Reader) []notice {
			return []notice{r.events(t, 1, 3, up), r.message(t, 2, 4, false, int32(1)), r.events(t, 3, 12, down, late), pulse(4, noon.Add(20*time.Second))}
		}, "3-15: 1 e1* e2 e3*"},
		{"refresh of what is known gives nothing twice", func(r *Reader) []notice {
			return []notice{r.events(t, 1, 3, up, plain), r.events(t, 2, 9, start(9), up, end(9)), pulse(3, noon.Add(20*time.Second))}
		}, "3-15: e1* e4"},
		{"refresh of what is not known is initial", func(r *Reader) []notice {
			return []notice{r.events(t, 1, 9, start(9), up), r.events(t, 2, 10, end(9), late)}
		}, "0-0: e1*i e3*"},
		{"news in the middle of a refresh is news", func(r *Reader) []notice {
			return []notice{r.events(t, 1, 9, start(9), up, late, end(9))}
		}, "0-0: e1*i e3*"},
		{"what went down is told again if it comes again", func(r *Reader) []notice {
			return []notice{r.events(t, 1, 12, up, down), r.events(t, 2, 13, start(13), up, end(13))}
		}, "0-0: e1* e2 e1*i"},
		{"a refresh that isn't announced", func(r *Reader) []notice {
			return []notice{r.events(t, 1, 3, up), r.events(t, 2, 4, up, plain, plain)}
		}, "0-0: e1* e4 e4"},
		{"below the severity", func(r *Reader) []notice {
			return []notice{r.events(t, 1, 3, alarm{id: "x", at: 3, severity: 9}, alarm{id: "y", at: 3, severity: 10})}
		}, "0-0: y"},
		{"the end of a condition has no severity", func(r *Reader) []notice {
			return []notice{r.events(t, 1, 3, up, alarm{id: "x", at: 4, condition: "hot"}, alarm{id: "y", at: 5, condition: "hot"})}
		}, "0-0: e1* x"},
		{"queue ran over, until the next one in it", func(r *Reader) []notice {
			return []notice{r.events(t, 1, 3, up), r.events(t, 2, 60, alarm{kind: typeOverflow, at: 20}, late), pulse(3, noon.Add(80*time.Second))}
		}, "50-75: e1* e3*; overflow 3-50 0"},
		{"queue ran over, told by the type alone", func(r *Reader) []notice {
			return []notice{r.events(t, 1, 3, up), r.events(t, 2, 60, alarm{kind: typeOverflow, bare: true}, late), pulse(3, noon.Add(80*time.Second))}
		}, "50-75: e1* e3*; overflow 3-50 0"},
		{"the same of an older server", func(r *Reader) []notice {
			return []notice{r.events(t, 1, 3, up), r.events(t, 2, 60, alarm{kind: typeBareOverflow, bare: true}, late), pulse(3, noon.Add(80*time.Second))}
		}, "50-75: e1* e3*; overflow 3-50 0"},
		{"queue ran over, and the next one has not come", func(r *Reader) []notice {
			return []notice{r.events(t, 1, 3, up), r.events(t, 2, 60, alarm{kind: typeOverflow, at: 20}), pulse(3, noon.Add(80*time.Second))}
		}, "60-75: e1*; overflow 3-60 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, log := listener(t, nil)
			log.told = told
			r.step(t, c.do(r)...)
			if got := strings.Join(log.lines, "; "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestReader_RefreshAfterRestart: what was delivered before it is known after it.
func TestReader_RefreshAfterRestart(t *testing.T) {
	up := alarm{id: "e1", at: 3, condition: "hot", active: true, retain: true, severity: 500}
	r, log := listener(t, nil)
	log.told = told
	r.step(t, r.events(t, 1, 3, up, start(3)))
	r, again := listener(t, log.state)
	again.told = told
	other := up
	other.id, other.condition = "e2", "wet"
	r.step(t, r.events(t, 2, 4, up, other, end(3)), r.events(t, 3, 5, up))
	if got, want := strings.Join(append(log.lines, again.lines...), "; "), "0-0: e1*; 0-0: e2*i"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestReader_EventBody: what is inside a sample, and what it has of the clocks.
func TestReader_EventBody(t *testing.T) {
	r, log := listener(t, nil)
	var got mesh.Sample
	log.told = func(t *testing.T, x mesh.Sample) string { t.Helper(); got = x; return "" }
	r.step(t, r.events(t, 1, 3, alarm{id: "e\xff", at: 3, condition: "hot", active: true, retain: true, severity: 700, message: "hot \xff"}))
	i, err := wire.ParseItem(got.Value.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for k, f := range r.table[1].Fields {
		if v := i.Items[k].Value; v.Type != mesh.TypeNone {
			text = append(text, fmt.Sprintf("%s=%q", f.Name, v.String()))
		}
	}
	want := `event_id="65ff" event_type="nsu=urn:types;i=77" source_node="nsu=urn:plant;s=press" source_name="press" message="hot \ufffd" severity="700" condition_id="nsu=urn:plant;s=hot" retain="true" enabled="true" active="true"`
	if s := strings.Join(text, " "); s != strings.ReplaceAll(want, `\ufffd`, "\uFFFD") {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	at := noon.Add(3 * time.Second)
	if got.Time != at || got.Source != at || got.Server != at.Add(time.Second) || got.Status != 0 || got.Signal != 1 {
		t.Errorf("%+v", got)
	}
}

// TestReader_EventTexts are cut, and that is said: a body has 64 KiB.
func TestReader_EventTexts(t *testing.T) {
	r, log := listener(t, nil)
	size := 0
	log.told = func(t *testing.T, x mesh.Sample) string { t.Helper(); size = len(x.Value.Bytes); return "" }
	long := strings.Repeat("ä", 40_000)
	r.step(t, r.events(t, 1, 3, alarm{id: long, at: 3, condition: long, severity: 500, message: long}))
	if size < maxEventText || size > wire.MaxText || len(log.notes) != 1 || !strings.Contains(log.notes[0], "at most 2048 are stored") {
		t.Errorf("a body of %d bytes, and %q", size, log.notes)
	}
}

// TestReader_EventTextsOfNoUTF8 stay below what a body may have, too: three bytes stand
// for one that is none.
func TestReader_EventTextsOfNoUTF8(t *testing.T) {
	r, log := listener(t, nil)
	size := 0
	log.told = func(t *testing.T, x mesh.Sample) string { t.Helper(); size = len(x.Value.Bytes); return "" }
	r.step(t, r.events(t, 1, 3, alarm{id: "x", at: 3, severity: 500, message: strings.Repeat("a\xff", maxEventText/2)}))
	if size < maxEventText/2 || size > maxEventText+4096 {
		t.Errorf("a body of %d bytes", size)
	}
}

func TestReader_ForeignEvent(t *testing.T) {
	r, log := listener(t, nil)
	n := r.events(t, 1, 3, alarm{id: "x", severity: 500})
	n.in.Events[0].Handle = r.state.handle(0, 0)
	r.step(t, n)
	if len(log.notes) != 1 || !strings.Contains(log.notes[0], "a: an event, where a value is read") {
		t.Errorf("%q", log.notes)
	}
	n = r.events(t, 2, 3, alarm{id: "x", severity: 500})
	r.state.Incarnation = 9
	r.order.put(n)
	if err := r.deliver(t.Context()); !errors.Is(err, errGone) || r.state.Subscription != 0 {
		t.Error(err)
	}
}

// TestConditions_AreBounded: they stand in every commit.
func TestConditions_AreBounded(t *testing.T) {
	r, log := listener(t, nil)
	log.told = told
	var all []alarm
	for i := range 3 * maxConditions {
		all = append(all, alarm{id: fmt.Sprint("e", i), at: 3, condition: fmt.Sprint("c", i), active: true, retain: true, severity: 500})
	}
	r.step(t, r.events(t, 1, 3, all...))
	if n := len(r.state.Conditions); n != maxConditions*conditionSize {
		t.Errorf("%d are kept", n)
	}
	b, err := r.state.encode(r.sealer)
	if err != nil || len(b) > 8<<10 {
		t.Errorf("the state has %d bytes, %v", len(b), err)
	}
	again, err := decodeState(b)
	if err != nil || !slices.Equal(again.Conditions, r.state.Conditions) {
		t.Errorf("read again %d, %v", len(again.Conditions), err)
	}
}

// TestWhere: operands refer to later elements only, and the filter says what it should.
func TestWhere(t *testing.T) {
	types := []*ua.NodeID{ua.NewNumericNodeID(0, id.AlarmConditionType), ua.NewStringNodeID(2, "Jam"), ua.NewNumericNodeID(2, 5)}
	for _, c := range []struct {
		t    []*ua.NodeID
		want string
	}{
		{nil, ""},
		{types[:1], "((((type i=2915 or type i=2787) or type i=2788) or type i=2789) or type i=3035)"},
		{types, "((((((type i=2915 or type ns=2;s=Jam) or type ns=2;i=5) or type i=2787) or type i=2788) or type i=2789) or type i=3035)"},
	} {
		f := filter(c.t).content()
		got := ""
		if len(f.Elements) > 0 {
			got = inWords(t, f, 0)
		}
		if got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func inWords(t *testing.T, f *ua.ContentFilter, at uint32) string {
	t.Helper()
	e := f.Elements[at]
	var ops []string
	for _, o := range e.FilterOperands {
		switch o := o.Value.(type) {
		case *ua.ElementOperand:
			if o.Index <= at {
				t.Fatalf("element %d refers to %d", at, o.Index)
			}
			ops = append(ops, inWords(t, f, o.Index))
		case *ua.LiteralOperand:
			ops = append(ops, fmt.Sprint(o.Value.Value()))
		}
	}
	switch e.FilterOperator { //nolint:exhaustive // those that are sent
	case ua.FilterOperatorOfType:
		return "type " + ops[0]
	case ua.FilterOperatorOr:
		return "(" + ops[0] + " or " + ops[1] + ")"
	}
	return "?"
}
