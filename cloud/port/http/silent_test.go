package porthttp

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"plantmesh/proto/mesh"
)

// asked notes which stretches of time rows are read of.
type asked struct {
	*fake

	mu    sync.Mutex
	spans []mesh.Span
}

func (a *asked) Rows(ctx context.Context, q mesh.RowQuery) ([]mesh.Row, string, error) {
	a.mu.Lock()
	a.spans = append(a.spans, q.Span)
	a.mu.Unlock()
	return a.fake.Rows(ctx, q)
}

// While nothing is known, progress is no instant: least of all 1970.
func TestLatest_ReadsLittleWhateverIsSilent(t *testing.T) {
	f := newFake(noon())
	a, deps := &asked{fake: f}, f.deps()
	deps.Rows = a
	h := New(Config{}, deps, slog.New(slog.DiscardHandler))
	for _, progress := range []mesh.Nanos{0, f.now.Add(-30 * 24 * time.Hour), f.now} {
		f.mu.Lock()
		f.progress = progress
		f.mu.Unlock()
		a.spans = nil
		if got := read(t, get(t, h, "/api/v1/products/equipment-state/latest")); len(got.Data) != 12 {
			t.Errorf("progress %s: %d rows", progress, len(got.Data))
		}
		for _, s := range a.spans {
			if s.Duration() > 50*time.Hour {
				t.Errorf("progress %s: rows of %v are read", progress, s)
			}
		}
	}
}

// jumper finds newest rows by itself, as the store does.
type jumper struct{ *fake }

func (j jumper) Latest(_ context.Context, q mesh.RowQuery) (out []mesh.Row, err error) {
	for _, r := range slices.Backward(j.rows[q.Product]) {
		if strings.HasPrefix(r.Key, q.Prefix) && slices.Contains(q.Entities, r.Entity) &&
			!slices.ContainsFunc(out, func(o mesh.Row) bool { return o.Entity == r.Entity }) {
			out = append(out, r)
		}
	}
	return out, nil
}

func TestLatest_AsksAStoreThatKnows(t *testing.T) {
	f := newFake(noon())
	deps := f.deps()
	deps.Rows = jumper{f}
	h := New(Config{}, deps, slog.New(slog.DiscardHandler))
	for target, want := range map[string]int{
		"oee/latest": 36, "oee/latest?window=day": 12, "oee/latest?equipment=line1-filler": 3, "coverage/latest": 3, "equipment-state/latest?equipment=line2": 4,
	} {
		if got := read(t, get(t, h, "/api/v1/products/"+target)); len(got.Data) != want {
			t.Errorf("%s: %d rows, want %d", target, len(got.Data), want)
		}
	}
}

func TestRows_OfAMachineTheSiteHasNoMore(t *testing.T) {
	h, f := serve(t)
	f.put("oee", mesh.Row{Entity: "line1-old", Key: "hour/x", From: 1, To: 2, State: mesh.RowFinal}, map[string]any{"equipment": "line1-old"})
	if got := read(t, get(t, h, "/api/v1/products/oee/rows?equipment=line1-old")); len(got.Data) != 1 {
		t.Errorf("%d rows", len(got.Data))
	}
	if w := get(t, h, "/api/v1/products/production-rate/rows?equipment=line1-old"); w.Code != 400 {
		t.Errorf("a machine without rows: %d %s", w.Code, w.Body)
	}
}

// One source that stands still far behind is silent, and says nothing of the
// others; one that is behind and comes nearer is catching up.
func TestStatus_ASilentSourceIsNoLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(noon())
		deps, now := f.deps(), mesh.NanosOf(noon())
		deps.PlantNow = func() mesh.Nanos { return now }
		ends := []SourceEnd{{"line1-opcua", now - 1e9}, {"line2-opcua", now - 3600e9}, {"line4-opcua", 0}}
		deps.Sources = func(context.Context, string) ([]SourceEnd, error) { return ends, nil }
		h := New(Config{}, deps, slog.New(slog.DiscardHandler))
		ask := func() (st state) {
			t.Helper()
			if err := json.Unmarshal(get(t, h, "/api/v1/products/oee/status").Body.Bytes(), &st); err != nil {
				t.Fatal(err)
			}
			return st
		}
		silent := func(st state) (names []string) {
			for _, x := range st.Sources {
				if x.Silent {
					names = append(names, x.Source)
				}
			}
			return names
		}
		if st := ask(); !st.CatchingUp || !slices.Equal(silent(st), []string{"line4-opcua"}) {
			t.Errorf("at first: %+v", st)
		}
		<-time.After(10 * time.Second)
		now += 10e9
		ends = []SourceEnd{{"line1-opcua", now - 1e9}, {"line2-opcua", now - 1800e9}, {"line4-opcua", 0}}
		if st := ask(); !st.CatchingUp || !slices.Equal(silent(st), []string{"line4-opcua"}) {
			t.Errorf("while it comes nearer: %+v", st)
		}
		<-time.After(20 * time.Second)
		now += 20e9
		ends = []SourceEnd{{"line1-opcua", now - 1e9}, ends[1], ends[2]}
		st := ask()
		if st.CatchingUp || st.LagSeconds != 1 || !slices.Equal(silent(st), []string{"line2-opcua", "line4-opcua"}) {
			t.Errorf("when it stands still: %+v", st)
		}
		// Somebody else looked all the time: who asks first is told at once.
		h = New(Config{}, deps, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = h.Watch(ctx) }()
		<-time.After(20 * time.Second)
		if st := ask(); !slices.Equal(silent(st), []string{"line2-opcua", "line4-opcua"}) {
			t.Errorf("after a watch: %+v", st)
		}
		stop()
		if st.Sources[1].HeardThrough == nil || st.Sources[2].HeardThrough != nil {
			t.Errorf("what is known of them: %+v", st.Sources)
		}
	})
}
