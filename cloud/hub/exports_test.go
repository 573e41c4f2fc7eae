package hub

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"path/filepath"
	"testing"
	"time"

	"plantmesh/cloud/port/parquet"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// speaker is an agent whose batches go straight into a hub's store.
type speaker struct {
	t     *testing.T
	s     *store.Store
	enc   *wire.Encoder
	acc   *mesh.Account
	at    mesh.Position
	end   mesh.Position
	table mesh.Descriptor
	day   time.Time
	first mesh.Nanos // in day
}

func newSpeaker(t *testing.T, cfg Config) *speaker {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(cfg.Data, "hub.db"), quiet())
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	o, err := s.OpenLog(t.Context(), 0)
	check(t, err)
	p := &speaker{t: t, s: s, acc: &mesh.Account{Log: "agent/graz/gw-1"}, end: o.End, day: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	p.first = mesh.NanosOf(p.day) + 5
	p.table, err = wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "line1.press.produced"}, {ID: 2, Name: "line1.press.speed"}})
	check(t, err)
	p.enc, err = wire.NewEncoder()
	check(t, err)
	p.at = mesh.Position{Log: p.acc.Log, Epoch: mesh.Epoch{5}}
	check(t, p.acc.Open(p.at.Epoch, mesh.Opening{}))
	return p
}

func (p *speaker) seal(source string, samples ...mesh.Sample) []byte {
	p.t.Helper()
	sealed, err := p.enc.Seal(&mesh.Batch{Source: source, Table: p.table.Hash(), Samples: samples})
	check(p.t, err)
	return sealed
}

func (p *speaker) put(sealed []byte) {
	p.t.Helper()
	h, err := wire.ParseHeader(sealed)
	check(p.t, err)
	p.at.Seq++
	p.end, err = p.s.Take(p.t.Context(), mesh.Take{After: p.end, Entries: []mesh.Entry{{Of: p.at, Header: h, Sealed: sealed}}, Accounts: []*mesh.Account{p.acc}, Descriptors: []mesh.Descriptor{p.table}})
	check(p.t, err)
}

func (p *speaker) compact(now mesh.Nanos) {
	p.t.Helper()
	_, err := p.s.Compact(p.t.Context(), store.Pass{Through: p.end, Now: now})
	check(p.t, err)
}

// rows are how many an export of the day has.
func (p *speaker) rows(cfg Config) int64 { return p.export(cfg).Rows }

func (p *speaker) export(cfg Config) (out Exported) {
	p.t.Helper()
	files, err := Export(p.t.Context(), cfg, ExportRequest{From: p.day, To: p.day, Out: p.t.TempDir()}, quiet())
	check(p.t, err)
	if len(files) > 0 {
		out = files[0]
	}
	return out
}

// Any agent can send a batch that names no signal table, and no one refuses it.
func TestExport_BesideABatchWithoutTable(t *testing.T) {
	cfg := testConfig(t)
	p := newSpeaker(t, cfg)
	good := p.seal("press", mesh.Sample{Signal: 1, Time: p.first, Value: mesh.Int(1)}, mesh.Sample{Signal: 1, Time: p.first + 1, Value: mesh.Int(1)})
	p.put(good)
	n := binary.LittleEndian.Uint32(good[1:]) - 32 // the table's hash ends the header
	bare := binary.LittleEndian.AppendUint32([]byte{good[0]}, n)
	bare = append(bare, good[5:5+n]...)
	bare[len(bare)-1] = 0 // how many there are
	bare = append(bare, good[5+n+32:len(good)-4]...)
	p.put(binary.LittleEndian.AppendUint32(bare, crc32.Checksum(bare, crc32.MakeTable(crc32.Castagnoli))))
	p.compact(p.first)
	if got := p.export(cfg); got.Rows != 2 || got.LeftOut != 1 {
		t.Errorf("%d rows, %d batches left out", got.Rows, got.LeftOut)
	}
}

// A table that can't be read takes its own batches with it, and no other.
func TestExport_BesideATableThatCantBeRead(t *testing.T) {
	cfg := testConfig(t)
	p := newSpeaker(t, cfg)
	p.put(p.seal("press", mesh.Sample{Signal: 1, Time: p.first, Value: mesh.Int(1)}))
	p.table = mesh.Descriptor{Kind: mesh.DescribeSite, Content: []byte("no table")}
	p.put(p.seal("press", mesh.Sample{Signal: 1, Time: p.first, Value: mesh.Int(1)}))
	if got := p.export(cfg); got.Rows != 1 || got.LeftOut != 1 {
		t.Errorf("%d rows, %d batches left out", got.Rows, got.LeftOut)
	}
	if newest, err := p.s.Newest(t.Context(), "press", p.first); err != nil || len(newest) != 1 {
		t.Errorf("%v %v", newest, err)
	}
}

// What is exported doesn't hang on where the plant's clock stands, nor on who is
// in the site file today: compacted or not.
func TestExport_OfAClockAheadAndASourceThatIsGone(t *testing.T) {
	cfg := testConfig(t)
	p := newSpeaker(t, cfg)
	p.put(p.seal("press", mesh.Sample{Signal: 1, Time: p.first, Value: mesh.Int(1)}, mesh.Sample{Signal: 2, Time: p.first, Value: mesh.Int(1)}))
	p.put(p.seal("gone", mesh.Sample{Signal: 1, Time: p.first, Value: mesh.Int(1)}))
	if got := p.rows(cfg); got != 3 {
		t.Errorf("%d rows", got)
	}
	p.compact(p.first.Add(-3 * 24 * time.Hour))
	if got := p.rows(cfg); got != 3 {
		t.Errorf("compacted: %d rows", got)
	}
}

// What an archive has of a day that was dropped since is all there is of it.
func TestExport_LeavesADroppedDayAlone(t *testing.T) {
	cfg := testConfig(t)
	p := newSpeaker(t, cfg)
	later := p.first.Add(60 * 24 * time.Hour)
	for _, from := range []mesh.Nanos{p.first, later} {
		var samples []mesh.Sample
		for i := range 500 {
			samples = append(samples, mesh.Sample{Signal: 1, Time: from + mesh.Nanos(i)*1e9, Value: mesh.Int(1)})
		}
		p.put(p.seal("press", samples...))
		p.compact(from)
	}
	r := ExportRequest{From: p.day, To: p.day, Out: t.TempDir()}
	files, err := Export(t.Context(), cfg, r, quiet())
	check(t, err)
	dropped, err := p.s.Retain(t.Context(), store.Retention{Now: later, Keep: 30 * 24 * time.Hour, Least: 14 * 24 * time.Hour})
	check(t, err)
	if len(files) != 1 || len(dropped.Days) != 1 {
		t.Fatalf("%+v %+v", files, dropped)
	}
	p.put(p.seal("press", mesh.Sample{Signal: 1, Time: p.first, Value: mesh.Int(9)}))
	if _, err := Export(t.Context(), cfg, r, quiet()); !errors.Is(err, ErrUsage) {
		t.Errorf("%v", err)
	}
	if rows, err := parquet.Read(files[0].Path); err != nil || len(rows) != 500 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	if got := p.rows(cfg); got != 1 {
		t.Errorf("%d late rows in another folder", got)
	}
}

// Of a day that retention drops while it is read no file is made: it would have a
// part of it and not say so. What was dropped before doesn't matter.
func TestExport_OfADayThatIsDroppedMeanwhile(t *testing.T) {
	cfg := testConfig(t)
	p := newSpeaker(t, cfg)
	later := p.first.Add(60 * 24 * time.Hour)
	for _, from := range []mesh.Nanos{p.first, later} {
		p.put(p.seal("press", mesh.Sample{Signal: 1, Time: from, Value: mesh.Int(1)}))
		p.compact(from)
	}
	x := &export{store: p.s}
	was, err := p.s.Kept(t.Context())
	check(t, err)
	check(t, x.stillKept(t.Context(), p.day, was))
	dropped, err := p.s.Retain(t.Context(), store.Retention{Now: later, Keep: 30 * 24 * time.Hour, Least: 14 * 24 * time.Hour})
	check(t, err)
	if len(dropped.Days) != 1 {
		t.Fatalf("%+v", dropped)
	}
	if err := x.stillKept(t.Context(), p.day, was); err == nil {
		t.Error("a part of a dropped day is a file")
	}
	check(t, x.stillKept(t.Context(), later.Time(), was))
	if was, err = p.s.Kept(t.Context()); err == nil {
		err = x.stillKept(t.Context(), p.day, was)
	}
	check(t, err)
}
