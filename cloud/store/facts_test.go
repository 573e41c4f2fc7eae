package store

import (
	"database/sql"
	"log/slog"
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

// A database of layout 1 is kept: its products read the log again.
func TestStore_LayoutOfBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	s, m := openAt(t, path), newMaker(t)
	o := openLog(t, s)
	take(t, s, o.End, m, fact(t, "one"))
	end, _, err := s.Resume(t.Context(), product, 0)
	if err != nil {
		t.Fatal(err)
	}
	st := mesh.Step{Product: product, After: end, Place: o.End, Rows: []mesh.Row{{Entity: "m", Key: "k", Revision: 1, State: mesh.RowFinal}}, States: []mesh.FoldState{{Key: "m", Bytes: []byte("x")}}}
	if _, err := s.Commit(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	err = s.base.write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `DROP INDEX hub_log_facts; PRAGMA user_version = 1`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(t.Context(), path, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, place, err := s.Resume(t.Context(), product, 0); err != nil || !place.IsZero() {
		t.Errorf("the product goes on from %s, %v", place, err)
	}
	if _, ok, err := s.State(t.Context(), product, "m", 0); ok || err != nil {
		t.Errorf("a state of the old form stands, %v", err)
	}
	if rows, _, err := s.Rows(t.Context(), mesh.RowQuery{Product: product}); err != nil || len(rows) != 1 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	if f, err := s.Facts(t.Context(), 0); err != nil || len(f) != 1 {
		t.Errorf("%d facts, %v", len(f), err)
	}
}
