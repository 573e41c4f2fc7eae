package hop

import (
	"strings"
	"testing"

	"plantmesh/cloud/product"
	edge "plantmesh/edge/source"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// A source is away; what its agent writes down meanwhile is read by the hub.
func TestUnheard_IsOneGapUntilItIsBridged(t *testing.T) {
	for _, c := range []struct {
		name   string
		back   func(s *edge.Sealer)
		gaps   int
		closed bool
	}{
		{"while it is away", nil, 1, false},
		{"bridged", func(s *edge.Sealer) { s.Prove(160e9) }, 0, false},
		{"not bridged", func(s *edge.Sealer) {
			s.Void(mesh.Void{Cause: mesh.CauseDisconnected, Parts: []mesh.Part{{Source: source, Times: mesh.Span{From: 60e9, To: 150e9}}}, Note: "the session is lost"})
			s.Begin(150e9)
			s.Prove(160e9)
		}, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := edge.NewSealer(edge.Window{}, source, nil)
			if err != nil {
				t.Fatal(err)
			}
			var log hubLog
			s.Begin(10e9)
			s.Prove(60e9)
			log.take(t, s)
			for _, now := range []mesh.Nanos{75e9, 135e9} {
				s.Unheard(now, "connection refused")
				log.take(t, s)
			}
			if c.back != nil {
				c.back(s)
				log.take(t, s)
			}
			rows := log.coverage(t)
			if len(rows) != c.gaps {
				t.Fatalf("%d gaps: %+v", len(rows), rows)
			}
			for _, r := range rows {
				if closed := r.To != 0; r.From != 60e9 || closed != c.closed || !strings.Contains(string(r.Body), "disconnected") {
					t.Errorf("gap from %v to %v: %s", r.From, r.To, r.Body)
				}
			}
		})
	}
}

// hubLog folds what one source's records say.
type hubLog struct {
	heard product.Voices
	ord   mesh.Ordinal
}

func (l *hubLog) take(t *testing.T, s *edge.Sealer) {
	t.Helper()
	o, err := s.Seal(nil)
	if err != nil {
		t.Fatal(err)
	}
	known := l.heard.Log("agent/graz/gw-1")
	for _, sealed := range o.Sealed {
		l.ord++
		h, err := wire.ParseHeader(sealed)
		if err != nil {
			t.Fatal(err)
		}
		if h.Kind == mesh.KindBatch {
			known.Batch(mesh.Position{Seq: uint64(l.ord)}, l.ord, h)
			continue
		}
		v, err := wire.OpenVoid(sealed)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range v.Parts {
			known.Void(mesh.Position{Seq: uint64(l.ord)}, l.ord, v, p)
		}
	}
	known.Advance(&product.Chain{Through: l.ord})
}

func (l *hubLog) coverage(t *testing.T) []product.Draft {
	t.Helper()
	all, err := product.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.ID == "coverage" {
			return d.CoverageDrafts(source, &l.heard)
		}
	}
	t.Fatal("no product coverage")
	return nil
}
