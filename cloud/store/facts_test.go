package store

import (
	"database/sql"
	"maps"
	"path/filepath"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

func fact(t *testing.T, about string) mesh.Entry {
	t.Helper()
	sealed, err := wire.SealFact(mesh.Fact{About: about, Descriptor: mesh.Hash{1}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := wire.ParseHeader(sealed)
	if err != nil {
		t.Fatal(err)
	}
	return mesh.Entry{Header: h, Sealed: sealed}
}

func TestStore_FactsAreTheHubsOwnInOrder(t *testing.T) {
	s, m := newStore(t), newMaker(t)
	o := openLog(t, s)
	end := take(t, s, o.End, m, fact(t, "one"), m.opening(), m.batch("a", 1))
	take(t, s, end, m, m.entry(fact(t, "of an agent").Sealed), fact(t, "two"))
	got, err := s.Facts(t.Context(), 0)
	if err != nil || len(got) != 2 || got[0].Header.About != "one" || got[1].Header.About != "two" {
		t.Fatalf("%+v %v", got, err)
	}
}

// Databases of the layouts before are kept with all they hold. Products of
// layout 1 read the log again; those of later ones go on.
func TestStore_LayoutsOfBefore(t *testing.T) {
	for version, back := range map[int]string{
		1: `DROP INDEX hub_log_facts; DROP TABLE compacted; DROP TABLE hub_past; DROP TABLE hub_sum; DROP TABLE day; DROP TABLE newest; DROP TABLE kept; DROP TABLE begun; DROP TABLE going; DROP INDEX row_open; PRAGMA user_version = 1`,
		2: `DROP TABLE compacted; DROP TABLE hub_past; DROP TABLE hub_sum; DROP TABLE day; DROP TABLE newest; DROP TABLE kept; DROP TABLE begun; DROP TABLE going; DROP INDEX row_open; PRAGMA user_version = 2`,
		3: `ALTER TABLE day DROP COLUMN pass; DROP TABLE begun; DROP TABLE going; DROP INDEX row_open; PRAGMA user_version = 3`,
		4: `DROP INDEX row_open; PRAGMA user_version = 4`,
	} {
		path := filepath.Join(t.TempDir(), "hub.db")
		s, m := openAt(t, path), newMaker(t)
		o := openLog(t, s)
		batch := m.opening()
		log := take(t, s, o.End, m, fact(t, "one"), batch, m.batch("a", 1, 2), m.batch("a", 3))
		end, _, err := s.Resume(t.Context(), product, 0)
		if err != nil {
			t.Fatal(err)
		}
		st := mesh.Step{Product: product, After: end, Place: o.End, Rows: []mesh.Row{{Entity: "m", Key: "k", Revision: 1, State: mesh.RowFinal}}, States: []mesh.FoldState{{Key: "m", Bytes: []byte("x")}}}
		if _, err := s.Commit(t.Context(), st); err != nil {
			t.Fatal(err)
		}
		err = s.base.write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), back)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openAt(t, path)
		if _, place, err := s.Resume(t.Context(), product, 0); err != nil || place.IsZero() != (version == 1) {
			t.Errorf("of %d: the product goes on from %s, %v", version, place, err)
		}
		if _, ok, err := s.State(t.Context(), product, "m", 0); ok != (version > 1) || err != nil {
			t.Errorf("of %d: a state stands: %v, %v", version, ok, err)
		}
		if rows, _, err := s.Rows(t.Context(), mesh.RowQuery{Product: product}); err != nil || len(rows) != 1 {
			t.Errorf("of %d: %d rows, %v", version, len(rows), err)
		}
		if f, err := s.Facts(t.Context(), 0); err != nil || len(f) != 1 {
			t.Errorf("of %d: %d facts, %v", version, len(f), err)
		}
		want, err := s.History(t.Context(), "a", ever())
		if err != nil || len(want) != 2 {
			t.Errorf("of %d: %d batches, %v", version, len(want), err)
		}
		if done, err := s.Compact(t.Context(), Pass{Through: log}); err != nil || done.Batches != 2 || done.Samples != 3 {
			t.Errorf("of %d: compacted %+v, %v", version, done, err)
		}
		got, err := s.History(t.Context(), "a", ever())
		if err != nil || !maps.Equal(all(t, got, ever()), all(t, want, ever())) {
			t.Errorf("of %d: the history differs: %v, %v", version, got, err)
		}
	}
}
