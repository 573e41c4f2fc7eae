package buffer

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

func verified(t *testing.T, b *Buffer) (out []Found) {
	t.Helper()
	check(t, b.Verify(t.Context(), func(f Found) error {
		out = append(out, f)
		return nil
	}))
	return out
}

func TestVerify_CountsEveryRecordAndNamesWhatIsDamaged(t *testing.T) {
	unwatched(t)
	t.Parallel()
	cfg := testConfig(t.TempDir())
	b := mustOpen(t, cfg)
	fill(t, b, 3)
	want := len(all(t, b))
	sum := func() (records, damaged uint64, unread int) {
		for _, f := range verified(t, b) {
			records, damaged = records+f.Records, damaged+f.Damaged
			if f.Unread {
				unread++
			}
		}
		return records, damaged, unread
	}
	if n, bad, unread := sum(); n != uint64(want) || bad+uint64(unread) > 0 {
		t.Fatalf("%d records, %d damaged, %d unread; want %d", n, bad, unread, want)
	}
	raw := sealed(t, "a", 100000, 40000)
	mustClose(t, b)
	path := segments(t, cfg.Dir)[0]
	file, err := os.ReadFile(path)
	check(t, err)
	i := bytes.Index(file, raw[len(raw)/2:len(raw)/2+64])
	if i < 0 {
		t.Fatal("the record was not found in the file")
	}
	file[i] ^= 4
	check(t, os.WriteFile(path, file, 0o600))
	b = mustOpen(t, cfg)
	end := b.End()
	if n, bad, _ := sum(); n != uint64(want) || bad != 1 { // one lost, one opening more
		t.Errorf("%d records, %d damaged; want %d and 1", n, bad, want)
	}
	if b.End() != end {
		t.Error("verify wrote something")
	}
	all(t, b) // a reader voids it
	var aside uint64
	for _, f := range verified(t, b) {
		aside += f.SetAside
		if f.Damaged > 0 || f.Unread {
			t.Errorf("still damaged: %+v", f)
		}
	}
	if aside != 1 {
		t.Errorf("%d records set aside", aside)
	}
}

func TestExport_IsReadByDump(t *testing.T) {
	t.Parallel()
	b := mustOpen(t, testConfig(t.TempDir()))
	for i := range 5 {
		mustAppend(t, b, offer(t, "a", mesh.Nanos(i*1000), 3), offer(t, "b", mesh.Nanos(i*1000), 2))
	}
	for source, want := range map[string][2]int{"": {11, 25}, "a": {5, 15}, "none": {0, 0}} {
		var frames, text bytes.Buffer
		e, err := b.Export(t.Context(), &frames, Selection{Source: source})
		n := e.Records
		check(t, err)
		check(t, wire.Dump(&text, &frames))
		records, samples := strings.Count(text.String(), `"frame":"record"`), strings.Count(text.String(), `"signal":`)
		if int(n) != want[0] || records != want[0] || samples != want[1] {
			t.Errorf("source %q: %d records exported, %d with %d samples read, want %v", source, n, records, samples, want)
		}
	}
}

func TestCompact_LetsGoOfWhatWasReceivedOnly(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	keep := strict.Duration(time.Hour)
	cfg.Keep = &keep
	b := mustOpen(t, cfg)
	fill(t, b, 3)
	rs := all(t, b)
	through := rs[len(rs)-2].At
	if _, err := b.Ack(mesh.Receipt{By: mesh.Position{Log: "hub/0", Epoch: mesh.NewEpoch(), Seq: 1}, Have: mesh.Set{Through: through}}); err != nil {
		t.Fatal(err)
	}
	freed, kept, err := b.Compact(false)
	check(t, err)
	if freed != 0 || kept == 0 {
		t.Errorf("freed %d, kept %d within the hour", freed, kept)
	}
	before := b.Stats().Bytes
	freed, kept, err = b.Compact(true)
	check(t, err)
	if freed <= 0 || kept != 0 || b.Stats().Bytes != before-freed {
		t.Errorf("freed %d of %d, kept %d", freed, before, kept)
	}
	left := all(t, b)
	if last := left[len(left)-1]; last.At != rs[len(rs)-1].At {
		t.Errorf("the record that was not received is gone: the last is %s", last.At)
	}
}

func TestAutonomy_IsTheRoomAtTodaysRate(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	now := time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	cfg.Now = func() time.Time { return now }
	b := mustOpen(t, cfg)
	if _, _, ok := b.Autonomy(); ok {
		t.Error("something is said of no time at all")
	}
	for i := range 30 {
		mustAppend(t, b, offer(t, "a", mesh.Nanos(i)*100000, 5000))
		now = now.Add(time.Hour)
	}
	d, perHour, ok := b.Autonomy()
	s := b.Stats()
	if grew := float64(s.Bytes) / 30; !ok || perHour < 0.8*grew || perHour > 1.3*grew {
		t.Fatalf("%.0f bytes an hour, the log grew by %.0f", perHour, grew)
	}
	if want := float64(s.MaxBytes-s.Bytes) / perHour; d.Hours() < want-0.01 || d.Hours() > want+0.01 {
		t.Errorf("%.2f hours, want %.2f", d.Hours(), want)
	}
}

// A window has whole records that touch it, what is voided in it, and what says what holds.
func TestExport_OfAWindow(t *testing.T) {
	t.Parallel()
	b := mustOpen(t, testConfig(t.TempDir()))
	for i := range 5 {
		mustAppend(t, b, offer(t, "a", mesh.Nanos(i*1000), 3), offer(t, "b", mesh.Nanos(i*1000), 2))
	}
	void, err := wire.SealVoid(mesh.Void{Cause: mesh.CauseOverflow, Parts: []mesh.Part{{Source: "a", Times: mesh.Span{From: 1500, To: 1600}}}})
	check(t, err)
	mustAppend(t, b, mesh.Offer{Source: "a", Sealed: [][]byte{void}})
	for name, c := range map[string]struct {
		s       Selection
		records uint64
		samples uint64
		times   mesh.Span
	}{
		"all":                       {Selection{}, 12, 25, mesh.Span{From: 0, To: 4002}},
		"two batches of two":        {Selection{Window: mesh.Span{From: 1000, To: 2001}}, 6, 10, mesh.Span{From: 1000, To: 2002}},
		"its end belongs to it not": {Selection{Window: mesh.Span{From: 1003, To: 1500}}, 1, 0, mesh.Span{}},
		"a void alone":              {Selection{Source: "a", Window: mesh.Span{From: 1599, To: 2000}}, 1, 0, mesh.Span{}},
		"one sample":                {Selection{Source: "a", Window: mesh.Span{From: 3002, To: 3003}}, 1, 3, mesh.Span{From: 3000, To: 3002}},
		"nothing":                   {Selection{Source: "a", Window: mesh.Span{From: 9000, To: 9999}}, 0, 0, mesh.Span{}},
	} {
		var frames, text bytes.Buffer
		e, err := b.Export(t.Context(), &frames, c.s)
		check(t, err)
		check(t, wire.Dump(&text, &frames))
		records := strings.Count(text.String(), `"frame":"record"`)
		if e.Records != c.records || e.Samples != c.samples || e.Times != c.times || records != int(c.records) {
			t.Errorf("%s: %+v, %d records read, want %+v", name, e, records, c)
		}
	}
}
