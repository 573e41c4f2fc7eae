package store

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

func openAt(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newStore(t *testing.T) *Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "data", "hub.db"))
}

const agentLog = mesh.LogID("agent/graz/gw-1")

// maker makes the entries of one agent's log, accounted for as ingest would.
type maker struct {
	t   testing.TB
	enc *wire.Encoder
	acc *mesh.Account
	at  mesh.Position
}

func newMaker(tb testing.TB) *maker {
	tb.Helper()
	enc, err := wire.NewEncoder()
	if err != nil {
		tb.Fatal(err)
	}
	return &maker{t: tb, enc: enc, acc: &mesh.Account{Log: agentLog}}
}

func (m *maker) entry(sealed []byte) mesh.Entry {
	m.t.Helper()
	m.at.Seq++
	if err := m.acc.Add(mesh.Range{Epoch: m.at.Epoch, First: m.at.Seq, Last: m.at.Seq}); err != nil {
		m.t.Fatal(err)
	}
	h, err := wire.ParseHeader(sealed)
	if err != nil {
		m.t.Fatal(err)
	}
	ord, _ := m.acc.Ordinal(m.at)
	return mesh.Entry{Of: m.at, Ord: ord, Through: m.acc.Through(), Header: h, Sealed: sealed}
}

func (m *maker) opening() mesh.Entry {
	m.t.Helper()
	o := mesh.Opening{Parent: m.at}
	m.at = mesh.Position{Log: agentLog, Epoch: mesh.NewEpoch()}
	if err := m.acc.Open(m.at.Epoch, o); err != nil {
		m.t.Fatal(err)
	}
	sealed, err := wire.SealOpening(o)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.entry(sealed)
}

func (m *maker) batch(source string, times ...mesh.Nanos) mesh.Entry {
	m.t.Helper()
	b := mesh.Batch{Source: source, Table: describe(m.t, 0).Hash()}
	for _, at := range times {
		b.Samples = append(b.Samples, mesh.Sample{Time: at, Value: mesh.Int(int64(at))})
	}
	sealed, err := m.enc.Seal(&b)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.entry(sealed)
}

func take(t *testing.T, s *Store, after mesh.Position, m *maker, entries ...mesh.Entry) mesh.Position {
	t.Helper()
	end, err := s.Take(t.Context(), mesh.Take{After: after, Entries: entries, Accounts: []*mesh.Account{m.acc.Clone()}, Descriptors: []mesh.Descriptor{describe(t, 0), describe(t, 1)}, Place: mesh.Place{Stream: "s", Seq: after.Seq}})
	if err != nil {
		t.Fatal(err)
	}
	return end
}

func openLog(t *testing.T, s *Store) mesh.Opened {
	t.Helper()
	o, err := s.OpenLog(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestStore_TakeThenReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	s := openAt(t, path)
	o := openLog(t, s)
	if len(o.Accounts) != 0 || o.Place != (mesh.Place{}) || o.End.Seq != 1 {
		t.Fatalf("a new log opens as %+v", o)
	}
	m := newMaker(t)
	v := &mesh.Verdict{Revision: 3, Rules: mesh.Hash{9}, Marks: []mesh.Mark{{Index: 1, Rule: "r", Action: mesh.ActionQuarantine}}}
	batch := m.opening()
	entries := []mesh.Entry{batch, m.batch("a", 10, 20), m.batch("b", 30)}
	v.Of = entries[1].Of
	entries[1].Verdict = v
	d := mesh.Descriptor{Kind: mesh.DescribeSignals, Content: []byte("table")}
	changed := s.Changed()
	end, err := s.Take(t.Context(), mesh.Take{After: o.End, Entries: entries, Accounts: []*mesh.Account{m.acc}, Descriptors: []mesh.Descriptor{d, d}, Place: mesh.Place{Stream: "s", Seq: 7}})
	if err != nil || end.Seq != 4 || end.Epoch != o.End.Epoch {
		t.Fatalf("take ends at %s, %v", end, err)
	}
	<-changed
	if got, ok, err := s.Descriptor(t.Context(), d.Hash()); err != nil || !ok || got.Kind != d.Kind || string(got.Content) != "table" {
		t.Fatalf("descriptor %+v %v %v", got, ok, err)
	}
	if _, ok, err := s.Descriptor(t.Context(), mesh.Hash{1}); err != nil || ok {
		t.Fatal("a descriptor nobody stored", ok, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = openAt(t, path)
	o2 := openLog(t, s)
	if o2.Place != (mesh.Place{Stream: "s", Seq: 7}) || o2.End.Epoch == o.End.Epoch {
		t.Fatalf("reopened as %+v", o2)
	}
	if !bytes.Equal(encodeAccount(o2.Accounts[agentLog]), encodeAccount(m.acc)) {
		t.Fatalf("account %+v, want %+v", o2.Accounts[agentLog], m.acc)
	}
	if a, ok, err := s.Account(t.Context(), agentLog); err != nil || !ok || !bytes.Equal(encodeAccount(a), encodeAccount(m.acc)) {
		t.Fatalf("account %+v %v %v", a, ok, err)
	}
	end = take(t, s, o2.End, m, m.batch("a", 40))

	all, err := s.Peek(t.Context(), 0, mesh.Position{}, 100)
	if err != nil || len(all) != 6 {
		t.Fatalf("peek %d entries, %v", len(all), err)
	}
	if all[5].At != end {
		t.Fatalf("the last entry stands at %s, want %s", all[5].At, end)
	}
	for i, e := range entries {
		got := all[i+1]
		e.At = mesh.Position{Log: "hub/0", Epoch: o.End.Epoch, Seq: uint64(i + 2)}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("entry %d is\n%+v, want\n%+v", i, got, e)
		}
	}
	opening, err := wire.OpenOpening(all[4].Sealed)
	if err != nil || opening.Parent != (mesh.Position{Log: "hub/0", Epoch: o.End.Epoch, Seq: 4}) {
		t.Fatalf("the second opening follows %s, %v", opening.Parent, err)
	}
}

func TestStore_PeekFromEveryPosition(t *testing.T) {
	s, m := newStore(t), newMaker(t)
	for range 3 {
		o := openLog(t, s)
		take(t, s, o.End, m, m.opening(), m.batch("a", 1), m.batch("a", 2))
	}
	all, err := s.Peek(t.Context(), 0, mesh.Position{}, 100)
	if err != nil || len(all) != 12 {
		t.Fatalf("%d entries, %v", len(all), err)
	}
	for i := range all {
		rest, err := s.Peek(t.Context(), 0, all[i].At, 2)
		if err != nil || len(rest) != min(2, 11-i) {
			t.Fatalf("behind %d: %d entries, %v", i, len(rest), err)
		}
		if len(rest) > 0 && !reflect.DeepEqual(rest[0], all[i+1]) {
			t.Fatalf("behind %d stands %+v", i, rest[0])
		}
	}
	for name, p := range map[string]mesh.Position{
		"an epoch of nobody":     {Log: "hub/0", Epoch: mesh.NewEpoch(), Seq: 1},
		"beyond an epoch's end":  {Log: "hub/0", Epoch: all[0].At.Epoch, Seq: 5},
		"another partition's":    {Log: "hub/1", Epoch: mesh.NewEpoch(), Seq: 1},
		"the agent's own number": all[1].Of,
	} {
		if _, err := s.Peek(t.Context(), 0, p, 10); !errors.Is(err, mesh.ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStore_SecondOpenerWins(t *testing.T) {
	s, m := newStore(t), newMaker(t)
	first := openLog(t, s)
	second := openLog(t, s)
	tk := mesh.Take{After: first.End, Entries: []mesh.Entry{m.opening()}, Accounts: []*mesh.Account{m.acc}, Place: mesh.Place{Stream: "x", Seq: 1}}
	for _, after := range []mesh.Position{first.End, {}, {Log: "hub/0"}, {Log: "hub/1", Epoch: second.End.Epoch, Seq: 1}, {Log: "hub/0", Epoch: second.End.Epoch, Seq: 2}} {
		tk.After = after
		if _, err := s.Take(t.Context(), tk); !errors.Is(err, mesh.ErrMoved) {
			t.Fatalf("take after %s: %v", after, err)
		}
	}
	third := openLog(t, s)
	if len(third.Accounts) != 0 || third.Place != (mesh.Place{}) {
		t.Fatalf("a refused take left %+v", third)
	}
	take(t, s, third.End, m, tk.Entries...)
}

func TestStore_TakeOnlyPlace(t *testing.T) {
	s := newStore(t)
	o := openLog(t, s)
	end, err := s.Take(t.Context(), mesh.Take{After: o.End, Place: mesh.Place{Stream: "s", Seq: 9}})
	if err != nil || end != o.End {
		t.Fatalf("end %s, %v", end, err)
	}
	if o = openLog(t, s); o.Place.Seq != 9 {
		t.Fatalf("place %+v", o.Place)
	}
}

func TestStore_NeverTwice(t *testing.T) {
	s, m := newStore(t), newMaker(t)
	o := openLog(t, s)
	first := m.opening()
	end := take(t, s, o.End, m, first)
	if _, err := s.Take(t.Context(), mesh.Take{After: end, Entries: []mesh.Entry{first}}); err == nil {
		t.Fatal("one position was stored twice")
	}
	if got, err := s.Peek(t.Context(), 0, mesh.Position{}, 10); err != nil || len(got) != 2 {
		t.Fatalf("%d entries, %v", len(got), err)
	}
	sums, err := s.Sums(t.Context(), []mesh.Position{first.Of, {Log: agentLog, Epoch: first.Of.Epoch, Seq: 2}})
	if err != nil || len(sums) != 1 || sums[first.Of] == 0 {
		t.Fatalf("sums %v, %v", sums, err)
	}
}

func TestStore_History(t *testing.T) {
	s, m := newStore(t), newMaker(t)
	o := openLog(t, s)
	sec := mesh.Nanos(time.Second)
	hour := 3600 * sec
	var entries []mesh.Entry
	add := func(e mesh.Entry) { entries = append(entries, e) }
	add(m.opening())
	add(m.batch("a", 0, 2*hour))     // 1: long
	add(m.batch("a", hour, hour+1))  // 2
	add(m.batch("a", 2*hour))        // 3
	add(m.batch("b", hour))          // 4: another source
	add(m.batch("a"))                // 5: empty
	add(m.batch("a", 5*hour, 1<<62)) // 6: a stamp of the far future
	add(m.batch("a", -(1 << 62), 3)) // 7: and of the far past
	take(t, s, o.End, m, entries...)
	for _, c := range []struct {
		from, to mesh.Nanos
		want     []uint64
	}{
		{0, 1, []uint64{1, 7}},
		{hour, hour + 1, []uint64{1, 2}},
		{hour + 2, 2 * hour, []uint64{1}},
		{2 * hour, 2*hour + 1, []uint64{1, 3}},
		{2*hour + 1, 3 * hour, nil},
		{6 * hour, 7 * hour, []uint64{6}},
		{-1 << 63, 1<<63 - 1, []uint64{1, 2, 3, 6, 7}},
	} {
		got, err := s.History(t.Context(), "a", mesh.Span{From: c.from, To: c.to})
		if err != nil {
			t.Fatal(err)
		}
		var seqs []uint64
		for _, e := range got {
			seqs = append(seqs, e.Of.Seq-1)
		}
		if !reflect.DeepEqual(seqs, c.want) {
			t.Errorf("[%d, %d): %v, want %v", c.from, c.to, seqs, c.want)
		}
	}
}

func TestStore_NothingHalfDone(t *testing.T) {
	s, m := newStore(t), newMaker(t)
	o := openLog(t, s)
	good, bad := m.opening(), m.batch("a", 1)
	bad.Verdict = &mesh.Verdict{Of: bad.Of}
	bad.Of = good.Of // the second insert breaks the rule of one
	if _, err := s.Take(t.Context(), mesh.Take{After: o.End, Entries: []mesh.Entry{good, bad}, Accounts: []*mesh.Account{m.acc}}); err == nil {
		t.Fatal("taken")
	}
	if o2 := openLog(t, s); len(o2.Accounts) != 0 {
		t.Fatal("the account of a refused take stayed")
	}
}

func TestStore_LayoutOfLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	s := openAt(t, path)
	err := s.base.write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `PRAGMA user_version = 99`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("opened a layout of the future")
	}
}

// TestStore_FullDisk bounds the file instead of the disk: SQLite reports both
// with the same code.
func TestStore_FullDisk(t *testing.T) {
	s, m := newStore(t), newMaker(t)
	o := openLog(t, s)
	end := take(t, s, o.End, m, m.opening())
	limit := func(pages int) {
		err := s.base.write(t.Context(), func(tx *sql.Tx) error {
			var n int
			return tx.QueryRowContext(t.Context(), fmt.Sprintf(`PRAGMA max_page_count = %d`, pages)).Scan(&n)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	limit(1)
	blob, before := make([]byte, 1<<20), m.acc.Clone()
	e := m.batch("a", 1)
	e.Sealed = blob
	_, err := s.Take(t.Context(), mesh.Take{After: end, Entries: []mesh.Entry{e}, Accounts: []*mesh.Account{m.acc}})
	if err == nil || !strings.Contains(err.Error(), "the hub's disk is full") {
		t.Fatalf("a full disk says: %v", err)
	}
	limit(1 << 20)
	m.acc, m.at.Seq = before, m.at.Seq-1
	take(t, s, end, m, m.batch("a", 1))
}

const crashEnv = "PLANTMESH_TEST_STORE_CRASH"

// TestStore_KilledWhileTaking kills a process that takes as fast as it can, and
// demands every record it had reported.
func TestStore_KilledWhileTaking(t *testing.T) {
	if path := os.Getenv(crashEnv); path != "" {
		takeForEver(t, path)
		return
	}
	if testing.Short() {
		t.Skip("skipped: starts and kills processes")
	}
	path := filepath.Join(t.TempDir(), "hub.db")
	m := map[mesh.Position]bool{}
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStore_KilledWhileTaking$")
		cmd.Env = append(os.Environ(), crashEnv+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, reported := bufio.NewScanner(out), 0
		for lines.Scan() {
			var p mesh.Position
			var e []byte
			if _, err := fmt.Sscanf(lines.Text(), "taken %x %d", &e, &p.Seq); err != nil {
				continue
			}
			copy(p.Epoch[:], e)
			p.Log = agentLog
			m[p] = true
			if reported++; reported == 40+30*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
	}
	s := openAt(t, path)
	o := openLog(t, s)
	have := map[mesh.Position]bool{}
	var after mesh.Position
	for {
		part, err := s.Peek(t.Context(), 0, after, 50)
		if err != nil {
			t.Fatal(err)
		}
		if len(part) == 0 {
			break
		}
		for _, e := range part {
			if have[e.Of] && !e.Of.IsZero() {
				t.Fatalf("%s is there twice", e.Of)
			}
			have[e.Of] = true
		}
		after = part[len(part)-1].At
	}
	for p := range m {
		if !have[p] {
			t.Errorf("%s was reported and is not there", p)
		}
		if !o.Accounts[agentLog].Has(p) {
			t.Errorf("%s was reported and is not accounted for", p)
		}
	}
}

func takeForEver(t *testing.T, path string) {
	t.Helper()
	s, err := Open(context.WithoutCancel(t.Context()), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	o := openLog(t, s)
	m := newMaker(t)
	if a := o.Accounts[agentLog]; a != nil {
		m.acc, m.at = a, a.Set.Through
	}
	e := m.opening()
	for end := o.End; ; e = m.batch("a", mesh.Nanos(m.at.Seq)) {
		end = take(t, s, end, m, e)
		fmt.Printf("taken %x %d\n", e.Of.Epoch[:], e.Of.Seq) //nolint:forbidigo // the parent process reads it
	}
}

func BenchmarkStore_Take10(b *testing.B) {
	s, err := Open(b.Context(), filepath.Join(b.TempDir(), "hub.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	}()
	o, err := s.OpenLog(b.Context(), 0)
	if err != nil {
		b.Fatal(err)
	}
	m := newMaker(b)
	next := []mesh.Entry{m.opening()}
	for end := o.End; b.Loop(); {
		if end, err = s.Take(b.Context(), mesh.Take{After: end, Entries: next, Accounts: []*mesh.Account{m.acc}}); err != nil {
			b.Fatal(err)
		}
		next = next[:0]
		for range 10 {
			next = append(next, m.batch("a", mesh.Nanos(m.at.Seq)))
		}
	}
}

func TestStore_IsSynced(t *testing.T) {
	s := newStore(t)
	for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "page_size": "8192"} {
		var got string
		err := s.base.write(t.Context(), func(tx *sql.Tx) error {
			return tx.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got)
		})
		if err != nil || got != want {
			t.Errorf("%s is %s, want %s, %v", pragma, got, want, err)
		}
	}
	err := s.base.read(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `DELETE FROM hub_log`)
		return err
	})
	if err == nil {
		t.Error("a reading connection writes")
	}
}
