package store

import (
	"database/sql"
	"errors"
	"os"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// onDay runs a query on the file of a day.
func (sc *scene) onDay(at mesh.Nanos, query string, into ...any) {
	sc.t.Helper()
	db, err := sql.Open("sqlite", sc.s.dayFile(dayOf(at)))
	if err == nil && len(into) > 0 {
		err = db.QueryRowContext(sc.t.Context(), query).Scan(into...)
	} else if err == nil {
		_, err = db.ExecContext(sc.t.Context(), query)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		sc.t.Fatal(err)
	}
}

// One damaged page of one day's file fails at most one pass: then that day is
// told, its samples go elsewhere, and every other day goes on.
func TestCompact_ADamagedPageStopsNothing(t *testing.T) {
	for _, table := range []string{"chunk_at", "chunk", "kind", "sqlite_autoindex_kind_1"} {
		sc := newScene(t, 1)
		sc.stamped(noon)
		sc.compact(sc.end, 0)
		var root int64
		sc.onDay(noon, `SELECT rootpage FROM sqlite_master WHERE name = '`+table+`'`, &root)
		path := sc.s.dayFile(dayOf(noon))
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		hurt := append([]byte(nil), good...)
		clear(hurt[(root-1)*dayPageBytes:][:64])
		if err := os.WriteFile(path, hurt, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // and after a restart
			sc.stamped(noon+5, noon+mesh.Nanos(dayNanos))
			var done Passed
			for range 2 {
				if done, err = sc.s.Compact(t.Context(), Pass{Through: sc.end, Now: sc.now}); err == nil {
					break
				}
			}
			if err != nil || done.Batches != 1 || done.BadDays != 1 {
				t.Fatalf("%s: nothing is compacted any more: %+v, %v", table, done, err)
			}
			if _, err := sc.s.History(t.Context(), "a", ever()); err == nil {
				t.Errorf("%s: the day is read without a word", table)
			}
			sc.reopen()
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		if done := sc.compact(sc.end, 0); done.BadDays != 0 {
			t.Errorf("%s, and mended: %+v", table, done)
		}
		// The same sample at the same time came twice.
		if got := sc.history("a", ever()); len(got) != 3 {
			t.Errorf("%s, and mended: %d samples", table, len(got))
		}
	}
}

// A file in the place of another day's, or one whose rows don't fit, hides
// nothing without a word.
func TestHistory_WhatDoesNotFitIsTold(t *testing.T) {
	for what, hurt := range map[string]func(sc *scene) error{
		"days exchanged": func(sc *scene) error {
			a, b := sc.s.dayFile(dayOf(noon)), sc.s.dayFile(dayOf(noon)+1)
			return errors.Join(os.Rename(a, a+".x"), os.Rename(b, a), os.Rename(a+".x", b))
		},
		"a chunk of a later pass": func(sc *scene) error {
			sc.onDay(noon, `UPDATE chunk SET pass = pass + (1 << 40) WHERE id = 1`)
			return nil
		},
		"a chunk of another time": func(sc *scene) error {
			sc.onDay(noon, `UPDATE chunk SET t_from = t_from - 1 WHERE id = 1`)
			return nil
		},
		"no kinds": func(sc *scene) error {
			sc.onDay(noon, `DELETE FROM kind`)
			return nil
		},
	} {
		sc := newScene(t, 1)
		for i := range mesh.Nanos(2) {
			sc.stamped(noon+i, noon+i+mesh.Nanos(dayNanos))
			sc.compact(sc.end, 0)
		}
		sc.reopen()
		if err := hurt(sc); err != nil {
			t.Fatal(err)
		}
		if got, err := sc.s.History(t.Context(), "a", mesh.Span{From: noon, To: noon + 9}); err == nil {
			t.Errorf("%s: %d chunks and not a word", what, len(got))
		}
	}
}

// One damaged record of the hub's log holds up nobody: it is there, and can't be
// opened.
func TestPeek_ADamagedRecordHoldsNobody(t *testing.T) {
	for _, column := range []string{"sealed", "verdict"} {
		sc := newScene(t, 1)
		sc.stamped(noon)
		sc.put(mesh.Batch{Source: "a", Table: sc.tables[0], Samples: []mesh.Sample{{Signal: 1, Time: noon + 1, Value: mesh.Int(1)}}},
			&mesh.Verdict{Revision: 1, Rules: mesh.Hash{9}, Marks: []mesh.Mark{{Rule: "r1", Action: mesh.ActionQuarantine}}})
		sc.stamped(noon + 2)
		hurt := sc.end
		hurt.Seq--
		err := sc.s.base.write(t.Context(), func(tx *sql.Tx) error {
			var b []byte
			if err := tx.QueryRowContext(t.Context(), `SELECT `+column+` FROM hub_log WHERE seq = ?`, int64(hurt.Seq)).Scan(&b); err != nil {
				return err
			}
			b[6] ^= 1
			_, err := tx.ExecContext(t.Context(), `UPDATE hub_log SET `+column+` = ? WHERE seq = ?`, b, int64(hurt.Seq))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		entries := sc.peekAll()
		last := entries[len(entries)-2]
		if entries[len(entries)-1].At != sc.end || last.At != hurt || last.Header.Kind != mesh.KindBatch || last.Header.About != "a" || last.Header.Times.From != noon+1 || last.Header.Count == 0 {
			t.Fatalf("%s: %+v", column, last)
		}
		if _, err := wire.ParseHeader(last.Sealed); err == nil {
			t.Errorf("%s: it is opened, with the verdict %+v", column, last.Verdict)
		}
		if got, err := sc.s.History(t.Context(), "a", ever()); err != nil || len(got) != 3 {
			t.Errorf("%s: %d batches, %v", column, len(got), err)
		}
		if got, err := sc.s.Newest(t.Context(), "a", noon); err != nil || len(got) != 1 || got[0].Sample.Time != noon+2 {
			t.Errorf("%s: the newest is %+v, %v", column, got, err)
		}
		if done := sc.compact(sc.end, 0); done.Damaged != 1 || done.Batches != 2 {
			t.Errorf("%s: %+v", column, done)
		}
	}
}
