package opcua

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua/datatype"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
)

// Trial is one signal that was read once: what the server said, and what a reader
// would make of it.
type Trial struct {
	Signal mesh.Signal
	Asked  string // the node or path of the configuration
	Node   string // where that leads now; empty: nowhere
	Raw    Raw
	Sample mesh.Sample
	Why    string        // what is wrong with it, in words; empty: nothing
	Each   time.Duration // how often the server is asked to look at it; 0: at each change
	Seldom time.Duration // how often it does at most, as it says; 0: it doesn't say, or at each change
}

// Raw is a value as the server said it.
type Raw struct {
	Type   string // built-in type (OPC 10000-6 §5.1.2); empty: no value
	Array  bool
	Text   string // at most 200 bytes
	Status mesh.Status
	Source mesh.Nanos // 0: none
	Server mesh.Nanos
}

// maxTrialText is how much of a raw value is shown.
const maxTrialText = 200

// Try reads each signal of cfg once, by a session that leaves nothing behind, and
// takes each value as the reader does. It subscribes to nothing: what the server keeps
// for the reader stays there. What can't be read is said in its Trial; the error is
// about the server as a whole, a *VisitError.
func Try(ctx context.Context, cfg Config, now func() mesh.Nanos, log *slog.Logger) (out []Trial, err error) {
	r, err := New(cfg, now, log)
	if err != nil {
		return nil, err
	}
	if r.sealer, err = source.NewSealer(cfg.Window, cfg.ID, r.table); err != nil {
		return nil, err
	}
	r.sess.life = visitLife
	err = r.sess.open(ctx, cfg.ID, func() error {
		tried, err := r.try(ctx)
		out = tried
		// Whether it is closed or not, the visit is over; the server ends it in visitLife.
		_, _ = call[*ua.CloseSessionResponse](context.WithoutCancel(ctx), &r.sess, &ua.CloseSessionRequest{DeleteSubscriptions: true})
		return err
	})
	if err != nil {
		return nil, r.sess.failed(err)
	}
	return out, nil
}

func (r *Reader) try(ctx context.Context) ([]Trial, error) {
	if err := r.learnLimits(ctx); err != nil {
		return nil, err
	}
	if err := r.survey(ctx, r.every()); err != nil {
		return nil, err
	}
	if err := r.typify(ctx); err != nil {
		return nil, err
	}
	out := make([]Trial, len(r.nodes))
	var there []int
	for i := range r.nodes {
		out[i] = Trial{Signal: r.table[i], Asked: r.cfg.Signals[i].Node + r.cfg.Signals[i].Path}
		if r.items[i].lost == nil {
			out[i].Node, out[i].Each = r.items[i].where(), r.sampling(i)
			if ms := r.items[i].facts.minimum; ms > 0 && ms < float64(time.Hour/time.Millisecond) {
				out[i].Seldom = time.Duration(ms * float64(time.Millisecond))
			}
			there = append(there, i)
			continue
		}
		out[i].Why = r.items[i].lost.Error()
		out[i].Sample = mesh.Sample{Signal: r.table[i].ID, Time: r.now(), Agent: r.now(), Status: statusOf(r.items[i].lost)}
	}
	return out, inCalls(&r.limits.read, there, func(some []int) error { return r.readOnce(ctx, some, out) })
}

// readOnce reads the nodes of some signals.
func (r *Reader) readOnce(ctx context.Context, some []int, out []Trial) error {
	a, err := r.readValues(ctx, some)
	if err != nil {
		return err
	}
	defer r.sess.ch.Release(a)
	for k, i := range some {
		v, t := &a.Values[k], &out[i]
		t.Raw = rawOf(v)
		if err := r.learn(ctx, i, v); err != nil {
			return err
		}
		if err := r.sample(&t.Sample, r.wants[i], v, r.now()); err != nil {
			t.Why = err.Error()
		}
		if r.drifts[i] && !t.Sample.Status.IsBad() {
			t.Sample.Status = statusDrifted
		}
		if t.Why == "" {
			t.Why = r.items[i].drift
		}
		t.Sample.Flags |= mesh.FlagInitial
	}
	return nil
}

func rawOf(v *publish.Value) Raw {
	raw := Raw{Array: v.Array, Status: mesh.Status(v.Status), Source: stamp(v.Source), Server: stamp(v.Server)}
	if v.Type == 0 {
		return raw
	}
	raw.Type = strings.Replace(strings.TrimPrefix(ua.TypeID(v.Type).String(), "TypeID"), "Uint", "UInt", 1) // the library spells it so
	switch {
	case v.Array:
		raw.Text = fmt.Sprintf("%d values", datatype.Elements(v.Bytes))
	case v.Type == publish.TypeDateTime:
		raw.Text = datatype.Instant(int64(v.Bits)).Format(time.RFC3339Nano)
	case v.Type == publish.TypeStatusCode:
		raw.Text = statusName(mesh.Status(v.Bits))
	case v.Type == publish.TypeByteString, v.Type >= publish.TypeExtension:
		raw.Text = fmt.Sprintf("%d bytes", len(v.Bytes))
	default:
		if x, err := new(Reader).scalar(v); err == nil {
			raw.Text = x.String()
		}
	}
	if len(raw.Text) > maxTrialText {
		raw.Text = raw.Text[:maxTrialText] + "…"
	}
	return raw
}

// StatusName is what OPC UA calls a status.
func StatusName(s mesh.Status) string {
	if s == mesh.StatusGood {
		return "Good"
	}
	return statusName(s)
}
