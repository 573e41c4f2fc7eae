package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"plantmesh/cloud/product"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// Machines says what is registered, of each machine how far its products can be made, and
// how its rules stand at its gateway, and which signals no machine has, while a hub runs on the data folder or not.
func Machines(ctx context.Context, cfg Config, log *slog.Logger) (l desk.Look, err error) {
	s, err := store.OpenReading(ctx, filepath.Join(cfg.Data, databaseName), log)
	if err != nil {
		return l, fmt.Errorf("%w: %w", ErrData, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	l, _, err = looked(ctx, cfg, s)
	return l, err
}

// heardSignals are the signals of all samples that are kept, by source; of one that was
// declared anew its newest declaration can't be told, so any.
func heardSignals(ctx context.Context, s *store.Store) (product.Heard, error) {
	tables, err := s.Tables(ctx, mesh.Span{From: math.MinInt64, To: math.MaxInt64})
	if err != nil {
		return nil, err
	}
	out := product.Heard{}
	for source, hashes := range tables {
		by := map[string]mesh.Signal{}
		for _, h := range hashes {
			d, ok, err := s.Descriptor(ctx, h)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			signals, err := wire.Signals(d)
			if err != nil {
				return nil, fmt.Errorf("read the signals of source %s: %w", source, err)
			}
			for _, sig := range signals {
				by[sig.Name] = sig
			}
		}
		out[source] = slices.SortedFunc(maps.Values(by), func(a, b mesh.Signal) int { return strings.Compare(a.Name, b.Name) })
	}
	return out, nil
}
