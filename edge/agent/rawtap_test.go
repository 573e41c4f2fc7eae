package agent

import (
	"context"
	"errors"
	"testing"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
)

// All sources together keep to the rate, what each left out counts, and who hears nothing is told
// what comes instead.
func TestRawTap_TellsAndCounts(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	var told []status.Tapped
	one := rawTap{
		now: func() time.Time { return now }, told: now, allowed: source.NewAllowance(3, now),
		tell: func(lines []status.Tapped) error { told = append(told, lines...); return nil },
	}
	values := []source.Raw{{Heard: 5, Signal: "a", Node: "ns=2;s=a", Type: "Double", Value: "1.5", Status: mesh.StatusBad, Source: 3, Server: 4, Notes: []string{"initial"}}, {Node: "t", Value: "x"}}
	heard := func(of string, leftOut, others uint64, values ...source.Raw) source.Heard {
		return source.Heard{Source: of, RawHeard: source.RawHeard{Values: values, LeftOut: leftOut, Others: others, Such: "b"}}
	}
	if err := one.take([]source.Heard{heard("s1", 2, 0, values...), heard("s2", 0, 7, values...)}, 10); err != nil {
		t.Fatal(err)
	}
	if len(told) != 4 || told[3].LeftOut != 13 || told[2].Raw.Source != "s2" {
		t.Fatalf("%+v", told)
	}
	if got, want := told[0].Raw.Line(), "1970-01-01T00:00:00.000000005Z  a  ns=2;s=a = 1.5 (Double)  Bad  source 1970-01-01T00:00:00.000000003Z  server 1970-01-01T00:00:00.000000004Z, initial"; got != want {
		t.Errorf("%q\nwant %q", got, want)
	}
	if x := told[1].Raw; x.Quality != "" || x.Line() != "  no signal  t = x" || told[0].Raw.Quality != "bad" {
		t.Errorf("%+v, %q", x, x.Line())
	}
	told = nil
	if err := one.take(nil, 5); err != nil || len(told) > 0 {
		t.Errorf("%+v, %v: so soon", told, err)
	}
	now = now.Add(leftOutEvery)
	if err := one.take(nil, 1); err != nil || len(told) != 1 || told[0].LeftOut != 6 {
		t.Errorf("%+v, %v: 6 are left out", told, err)
	}
	told, now = nil, now.Add(time.Second)
	if err := one.take([]source.Heard{heard("s1", 0, 1)}, 0); err != nil || len(told) > 0 {
		t.Errorf("%+v, %v: too early", told, err)
	}
	now = now.Add(othersEvery)
	if err := one.take(nil, 0); err != nil || len(told) != 1 || told[0].Others != 8 || told[0].Such != "b" {
		t.Errorf("%+v, %v", told, err)
	}
}

// A raw tap is one of those that may be at once, ends when it is asked to, and is forgotten then.
func TestTap_RawEnds(t *testing.T) {
	taps := &taps{now: time.Now, raw: source.NewListeners()}
	gone := errors.New("gone")
	for range 2 * maxTaps {
		if err := taps.Tap(t.Context(), status.TapQuery{Raw: true, Rate: 1}, func([]status.Tapped) error { return gone }); !errors.Is(err, gone) {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := taps.Tap(ctx, status.TapQuery{Raw: true, Rate: 1}, func([]status.Tapped) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := taps.Tap(t.Context(), status.TapQuery{Raw: true, Rate: 1, Pattern: "[a"}, nil); err == nil {
		t.Error("a pattern that is none is taken")
	}
}
