package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"plantmesh/firmware-sim/fault"
	"plantmesh/firmware-sim/plant"
	"plantmesh/firmware-sim/replay"
)

// openFeed is where emissions come from: recordings where there are any, else
// the plant. Recordings say when they begin and end, if the file doesn't. What
// breaks on command is broken already.
func openFeed(cfg *config) (plant.Feed, error) {
	if len(cfg.Replay) > 0 {
		r, err := openRecordings(cfg)
		if err != nil {
			return nil, err
		}
		return fault.Delay(r, cfg.late), nil
	}
	p, err := plant.New(plant.Config{Seed: cfg.Seed, Start: cfg.start, Stop: cfg.stop})
	if err != nil {
		return nil, fmt.Errorf("build the plant: %w", err)
	}
	return fault.Delay(p, cfg.late), nil
}

// recordings are several feeds as one.
type recordings []plant.Feed

func openRecordings(cfg *config) (recordings, error) {
	var (
		all      recordings
		from, to time.Time
		taken    = map[string]int{} // which recording is a source
	)
	for i, c := range cfg.Replay {
		f, err := replay.Open(c.CSV, c.Map)
		if err != nil {
			return nil, err
		}
		ofSource := func(s plant.Signal) bool { return s.Source == c.Source }
		if c.Source != "" && !slices.ContainsFunc(f.Signals(), ofSource) {
			return nil, cfg.doc.Fault(fmt.Sprintf("$.replay[%d].source", i), "the map has no asset of source %q", c.Source)
		}
		for _, s := range f.Signals() {
			if other, ok := taken[s.Source]; ok && other != i {
				return nil, cfg.doc.Fault(fmt.Sprintf("$.replay[%d].map", i), "source %q is another recording's already", s.Source)
			}
			taken[s.Source] = i
		}
		if from.IsZero() || f.Start().Before(from) {
			from = f.Start()
		}
		if f.End().After(to) {
			to = f.End()
		}
		all = append(all, f)
	}
	if cfg.start.IsZero() {
		cfg.start = from
	}
	if cfg.until.IsZero() {
		cfg.until = to
	}
	return all, nil
}

// Signals implements plant.Feed.
func (r recordings) Signals() (out []plant.Signal) {
	for _, f := range r {
		out = append(out, f.Signals()...)
	}
	return out
}

// Until implements plant.Feed.
func (r recordings) Until(t time.Time) (out []plant.Emission) {
	for _, f := range r {
		out = append(out, f.Until(t)...)
	}
	slices.SortStableFunc(out, func(a, b plant.Emission) int {
		return cmp.Or(a.Emitted.Compare(b.Emitted), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Index, b.Index))
	})
	return out
}
