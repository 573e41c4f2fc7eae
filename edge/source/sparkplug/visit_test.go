package sparkplug

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// overheard is what a broker said, a message each second.
type overheard []link.Heard

func (o *overheard) add(topic string, p payload.Payload) {
	at := noon.Add(time.Duration(len(*o)) * time.Second)
	if p.Timestamp == 0 {
		p.Timestamp = uint64(at / 1e6)
	}
	*o = append(*o, link.Heard{Topic: "spBv1.0/" + topic, Payload: payload.Append(nil, &p), At: at})
}

func numbered(seq uint64, metrics ...payload.Metric) payload.Payload {
	return payload.Payload{Seq: seq, HasSeq: true, Metrics: metrics}
}

func bdSeq(n uint64) payload.Metric {
	return payload.Metric{Name: []byte("bdSeq"), Type: payload.Int64, Value: payload.Value{Kind: payload.InLong, Bits: n}}
}

// line3 is a node that is born and says some, with all that may go wrong.
func line3() (o overheard) {
	stale := qualified(aliased(1, double("", 42.5)), 500)
	stale.Type, stale.Timestamp = payload.Unknown, uint64(noon/1e6)+1500
	small := payload.Metric{Name: []byte("Inputs/Small"), Type: payload.Int8, Value: payload.Value{Kind: payload.InInt, Bits: 255}}
	gone := payload.Metric{Name: []byte("Mode"), Type: payload.String, Null: true}
	passing := long("Scratch", 1)
	passing.Transient = true
	old := alone(aliased(1, double("", 40)))
	old.Historical, old.Timestamp = true, uint64(noon/1e6)-60_000
	o.add("plant/NDATA/filler", numbered(7, alone(aliased(1, double("", 41)))))
	o.add("plant/DDATA/filler/pump", numbered(8, alone(aliased(5, double("", 1)))))
	o.add("plant/NBIRTH/filler", numbered(0, bdSeq(4), payload.Metric{Name: []byte(rebirthMetric), Type: payload.Boolean, Value: payload.Value{Kind: payload.InBoolean}},
		aliased(1, double("Speed", 41.5)), small, gone, passing))
	o.add("plant/DBIRTH/filler/valve", numbered(1, aliased(2, long("Count", 9))))
	o.add("plant/NDATA/filler", numbered(2, stale, old, alone(aliased(77, double("", 1))), payload.Metric{HasAlias: true, Alias: 1, Value: payload.Value{Kind: payload.InString, Bytes: []byte("fast")}}))
	o.add("plant/DDATA/filler/valve", numbered(4, alone(aliased(2, long("", 10))))) // 3 is lost
	o.add("plant/DDEATH/filler/valve", numbered(5))
	o.add("plant/NDEATH/filler", payload.Payload{Metrics: []payload.Metric{bdSeq(3)}})
	o.add("plant/NDEATH/filler", payload.Payload{Metrics: []payload.Metric{bdSeq(4)}})
	return o
}

// words are what is told of one metric, in short.
func (x *Told) words() string {
	out := fmt.Sprintf("%s called %s: %s %s", x.Place, x.Called, x.Type, x.Raw)
	if x.Quality != "" {
		out += " " + x.Quality
	}
	if x.Stamp != 0 {
		out += " at " + x.Stamp.String()
	}
	if x.Sample.Agent != 0 {
		out += fmt.Sprintf(" -> %s %s=%v %08x %s %x", x.Signal.Type, x.Signal.Name, x.Sample.Value, uint32(x.Sample.Status), x.Sample.Time, x.Sample.Flags)
	}
	if x.Why != nil {
		out += " (" + x.Why.Error() + ")"
	}
	if x.Meant {
		out += " meant"
	}
	return out
}

// Each message and each metric is told of: what it was, and what becomes of it.
func TestExplain_EachMetricsWay(t *testing.T) {
	cfg := testConfig(t, func(c *Config) {
		c.Mode, c.HostID, c.StoreAndForward = Primary, "scada", []string{"plant/*"}
		c.Name = "{node}.{device}.{metric}"
		c.Signals = []SignalConfig{{Metric: "plant/filler/Speed", Name: "line3.filler.speed", Unit: "P1"}}
	})
	v, err := Explain(cfg, line3())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		summary string
		says    string // all of it
		refused bool
		told    []string
	}{
		{
			"seq 7, 2026-01-01T12:00:00Z, 1 metrics", errBefore.Error(), false,
			[]string{"plant/filler/alias 1 called alias 1:  41 (" + errBefore.Error() + ") meant"},
		},
		{
			"seq 8, 2026-01-01T12:00:01Z, 1 metrics", errUnheard.Error(), true,
			[]string{"plant/filler/pump/alias 5 called alias 5:  1 (" + errUnheard.Error() + ")"},
		},
		{"seq 0, bdSeq 4, 2026-01-01T12:00:02Z, 6 metrics", "", false, []string{
			"plant/filler/bdSeq called bdSeq: Int64 4 (" + errQuiet.Error() + ") meant",
			"plant/filler/Node Control/Rebirth called Node Control/Rebirth: Boolean false (" + errQuiet.Error() + ") meant",
			"plant/filler/Speed called Speed: Double 41.5 -> double line3.filler.speed=41.5 00000000 2026-01-01T12:00:02Z 1",
			"plant/filler/Inputs/Small called Inputs/Small: Int8 255 -> int filler.Inputs.Small=-1 00000000 2026-01-01T12:00:02Z 1",
			"plant/filler/Mode called Mode: String null -> string filler.Mode= 809b0000 2026-01-01T12:00:02Z 1",
			"plant/filler/Scratch called Scratch: Int64 1 (" + errTransient.Error() + ") meant",
		}},
		{"seq 1, 2026-01-01T12:00:03Z, 1 metrics", "", false, []string{"plant/filler/valve/Count called Count: Int64 9 -> int filler.valve.Count=9 00000000 2026-01-01T12:00:03Z 1"}},
		{"seq 2, 2026-01-01T12:00:04Z, 4 metrics", "", false, []string{
			"plant/filler/Speed called alias 1: Double 42.5 Quality 500 at 2026-01-01T12:00:01.5Z -> double line3.filler.speed=42.5 40900000 2026-01-01T12:00:01.5Z 0",
			"plant/filler/Speed called alias 1: Double 40 at 2026-01-01T11:59:00Z -> double line3.filler.speed=40 00000000 2026-01-01T11:59:00Z 2",
			"plant/filler/alias 77 called alias 77:  1 (" + errUnnamed.Error() + ")",
			"plant/filler/Speed called alias 1: Double fast -> double line3.filler.speed= 80740000 2026-01-01T12:00:04Z 0 (value has another type than its metric: Double, and what came is a text)",
		}},
		{
			"seq 4, 2026-01-01T12:00:05Z, 1 metrics",
			"it came before one that is missing, and waits for that (reorder_timeout)|" +
				"plant/filler: 1 of its messages did not come (sequence numbers 3 to 3): they are sent with QoS 0, which promises nothing|" +
				"5 signals become Bad: what they are now is not known", false,
			[]string{"plant/filler/valve/Count called alias 2: Int64 10 -> int filler.valve.Count=10 00000000 2026-01-01T12:00:05Z 0"},
		},
		{
			"seq 5, 2026-01-01T12:00:06Z, 0 metrics",
			"it came before one that is missing, and waits for that (reorder_timeout)|1 signals become Bad: what they are now is not known", false, nil,
		},
		{"bdSeq 3, 2026-01-01T12:00:07Z, 1 metrics", "the death of no connection that was heard to be born: nothing changes", false, nil},
		{"bdSeq 4, 2026-01-01T12:00:08Z, 1 metrics", "", false, nil},
	} {
		l := &v.Looks[i]
		if got := strings.Join(l.Says, "|"); l.Summary != want.summary || got != want.says || l.Refused != want.refused {
			t.Errorf("message %d: %q says %q (refused %t), want %q, %q", i, l.Summary, got, l.Refused, want.summary, want.says)
		}
		var told []string
		for k := range l.Told {
			told = append(told, l.Told[k].words())
		}
		if !slices.Equal(told, want.told) {
			t.Errorf("message %d tells\n%s\nwant\n%s", i, strings.Join(told, "\n"), strings.Join(want.told, "\n"))
		}
	}
	if !slices.Equal(v.Unborn, []string{"plant/filler/pump"}) || len(v.Table) != 5 || len(v.Says) > 0 {
		t.Errorf("unborn %q, %d signals, says %q", v.Unborn, len(v.Table), v.Says)
	}
}

// However much there is in a message, what is told has a bound, and the rest is counted.
func TestExplain_IsBounded(t *testing.T) {
	var all []payload.Metric
	for i := range 9_000 {
		all = append(all, double(fmt.Sprintf("m%d", i), 1))
	}
	var o overheard
	for range 3 {
		o.add("plant/NBIRTH/filler", numbered(0, append(all, bdSeq(1))...))
	}
	v, err := Explain(testConfig(t, nil), o)
	if err != nil {
		t.Fatal(err)
	}
	told, more := 0, 0
	for i := range v.Looks {
		told, more = told+len(v.Looks[i].Told), more+v.Looks[i].More
	}
	if told != mostTold || told+more != 3*9_001 {
		t.Errorf("%d told, %d more", told, more)
	}
}

// A test is nobody to the nodes and to other hosts, whatever the mode of the file, and it
// sees who may not speak.
func TestVisit_OnlyListens(t *testing.T) {
	for _, mode := range []Mode{Passive, Active, Primary} {
		t.Run(string(mode), func(t *testing.T) {
			b := newBroker(t)
			cfg := testConfig(t, func(c *Config) {
				if c.Mode = mode; mode == Primary {
					c.HostID = "scada"
				}
				c.URL, c.Nodes = b.url(), []string{"plant/filler"}
			})
			done := make(chan Visited, 1)
			go func() {
				v, err := Visit(t.Context(), cfg, link.Stay{Messages: 2, Within: 20 * time.Second, Bytes: 1 << 20}, func() mesh.Nanos { return noon })
				if err != nil {
					t.Error(err)
				}
				done <- v
			}()
			w := b.next()
			hello := connect(w.want(kindConnect))
			if !strings.HasPrefix(hello.client, "plantmesh-test-") || !hello.cleanStart || hello.expiry != 0 || hello.will {
				t.Errorf("it calls as %+v", hello)
			}
			if got := filtersOf(w.want(kindSubscribe).body); !slices.Equal(got, []string{"spBv1.0/+/+/+", "spBv1.0/+/+/+/+"}) {
				t.Errorf("it subscribes to %q", got)
			}
			for _, x := range []string{"plant/NDATA/capper", "plant/NCMD/filler", "other/NBIRTH/filler", "plant/NDATA/capper", "plant/XDATA/filler", "plant/NDATA/filler", "plant/NDATA/filler"} {
				w.publish("spBv1.0/"+x, payload.Append(nil, &payload.Payload{Seq: 1, HasSeq: true, Metrics: []payload.Metric{alone(aliased(1, double("", 1)))}}))
			}
			w.want(kindDisconnect) // and no publish before
			v := <-done
			if want := []Foreign{{"other/filler", 1}, {"plant/capper", 2}}; !slices.Equal(v.Foreign, want) || len(v.Looks) != 2 || !slices.Equal(v.Unborn, cfg.Nodes) {
				t.Errorf("foreign %v, %d messages, unborn %q", v.Foreign, len(v.Looks), v.Unborn)
			}
			if says := strings.Join(v.Says, "; "); !strings.Contains(says, "1 messages are commands") || !strings.Contains(says, "1 messages below spBv1.0 are none") {
				t.Errorf("it says %q", says)
			}
		})
	}
}

// A broker that shows this login no more than the file names is heard all the same.
func TestVisit_BrokerThatShowsLittle(t *testing.T) {
	b := newBroker(t)
	b.denies = "spBv1.0/+/+/+"
	cfg := testConfig(t, func(c *Config) { c.URL, c.Nodes = b.url(), []string{"plant/filler"} })
	done := make(chan Visited, 1)
	go func() {
		v, err := Visit(t.Context(), cfg, link.Stay{Messages: 1, Within: 20 * time.Second, Bytes: 1 << 20}, func() mesh.Nanos { return noon })
		if err != nil {
			t.Error(err)
		}
		done <- v
	}()
	b.next().want(kindSubscribe)
	w := b.next()
	if got := filtersOf(w.want(kindSubscribe).body); !slices.Equal(got, cfg.filters()) {
		t.Errorf("it subscribes to %q", got)
	}
	w.publish("spBv1.0/plant/NDATA/filler", payload.Append(nil, &payload.Payload{Seq: 1, HasSeq: true}))
	if v := <-done; len(v.Looks) != 1 || len(v.Says) != 1 || !strings.Contains(v.Says[0], "only what nodes names") {
		t.Errorf("%d messages, says %q", len(v.Looks), v.Says)
	}
	b.listener.Close()
	if _, err := Visit(context.WithoutCancel(t.Context()), cfg, link.Stay{Messages: 1, Within: time.Second, Bytes: 1}, nil); err == nil || !strings.Contains(err.Error(), cfg.URL) {
		t.Errorf("a broker that is not there: %v", err)
	}
}
