package agent

import (
	"context"
	"errors"
	"testing"
	"time"

	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// scripted is a log to which something comes each time somebody looks for news; then it ends.
type scripted struct {
	*judgeLog

	steps []func()
	end   context.CancelFunc
}

func (l *scripted) Changed() <-chan struct{} {
	if len(l.steps) == 0 {
		l.end()
	} else {
		l.steps[0]()
		l.steps = l.steps[1:]
	}
	c := make(chan struct{})
	close(c)
	return c
}

func (l *scripted) End() mesh.Position {
	if len(l.records) == 0 {
		return mesh.Position{}
	}
	return l.records[len(l.records)-1].At
}

// listened is what a tap told.
type listened struct {
	samples         []string
	leftOut, others uint64
	lines           int
}

func listen(t *testing.T, q status.TapQuery, steps func(l *scripted, add func(source string, n int, status mesh.Status)), slow func(now *time.Time, told int)) (got listened) {
	t.Helper()
	log, table := tableOf(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := &scripted{judgeLog: log, end: cancel}
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	steps(l, func(source string, n int, s mesh.Status) {
		b := mesh.Batch{Source: source, Table: table}
		for range n {
			b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: mesh.Nanos(len(l.records)*1000 + len(b.Samples) + 1), Value: mesh.Int(7), Status: s})
		}
		sealed, err := enc.Seal(&b)
		l.add(t, sealed, err)
	})
	now := time.Unix(1_700_000_000, 0)
	taps := &taps{log: l, now: func() time.Time { return now }}
	err = taps.Tap(ctx, q, func(lines []status.Tapped) error {
		for _, x := range lines {
			got.lines++
			got.leftOut += x.LeftOut
			got.others += x.Others
			if x.Sample != nil {
				got.samples = append(got.samples, x.Sample.Line())
			}
		}
		if slow != nil {
			slow(&now, len(lines))
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return got
}

// Who listens and does not read loses samples, each of them counted; the tap reads on
// where the log ends, and holds nothing meanwhile.
func TestTap_SlowListenersLoseSamplesAndAreTold(t *testing.T) {
	stuck := true
	got := listen(t, status.TapQuery{Rate: 1000}, func(l *scripted, add func(string, int, mesh.Status)) {
		many := func() {
			for range 50 {
				add("s", 10, mesh.StatusGood)
			}
		}
		l.steps = []func(){func() { add("s", 10, mesh.StatusGood) }, many, func() {}, func() { add("s", 5, mesh.StatusGood) }}
	}, func(now *time.Time, told int) {
		if told > 0 && stuck { // the first that is told takes a second
			stuck = false
			*now = now.Add(time.Second)
		}
	})
	if len(got.samples) != 15 || got.leftOut != 500 {
		t.Errorf("%d samples told and %d left out, of 515", len(got.samples), got.leftOut)
	}
	if want := "1970-01-01T00:00:00.000000001Z  a = 7  Good"; got.samples[0] != want {
		t.Errorf("%q, want %q", got.samples[0], want)
	}
}

func TestTap_TellsWhatWasAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		q               status.TapQuery
		samples         int
		leftOut, others uint64
	}{
		"all":            {status.TapQuery{Rate: 100}, 60, 0, 0},
		"at a rate":      {status.TapQuery{Rate: 7}, 7, 53, 0},
		"of a source":    {status.TapQuery{Rate: 100, Source: "s"}, 40, 0, 0},
		"bad ones":       {status.TapQuery{Rate: 100, Quality: "bad"}, 20, 0, 0},
		"by a glob":      {status.TapQuery{Rate: 100, Pattern: "[a-c]*"}, 60, 0, 0},
		"of nobody":      {status.TapQuery{Rate: 100, Pattern: "press"}, 0, 0, 60},
		"by a bad glob?": {status.TapQuery{Rate: 100, Pattern: "x*"}, 0, 0, 60},
	} {
		t.Run(name, func(t *testing.T) {
			got := listen(t, c.q, func(l *scripted, add func(string, int, mesh.Status)) {
				l.steps = []func(){func() {
					add("s", 20, mesh.StatusGood)
					add("s", 20, mesh.StatusBad)
					add("other", 20, mesh.StatusGood)
				}, func() {}, func() {}}
			}, func(now *time.Time, _ int) { *now = now.Add(othersEvery) })
			if len(got.samples) != c.samples || got.leftOut != c.leftOut || c.samples == 0 && got.others != c.others {
				t.Errorf("%d told, %d left out, %d others", len(got.samples), got.leftOut, got.others)
			}
		})
	}
	if err := (&taps{}).Tap(t.Context(), status.TapQuery{Pattern: "[a"}, nil); err == nil {
		t.Error("a pattern that is none is taken")
	}
}
