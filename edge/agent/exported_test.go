package agent

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"plantmesh/edge/buffer"
	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// stored is a buffer with 4 batches of 5 samples each, a second apart, of signals that are a
// number with names, a text and an array.
func stored(t *testing.T) *buffer.Buffer {
	t.Helper()
	b, err := buffer.Open(buffer.Config{Dir: t.TempDir(), Log: "agent/graz/gw-1", MaxBytes: 8 << 20, SegmentBytes: 1 << 20}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	table, err := wire.DescribeSignals([]mesh.Signal{
		{ID: 1, Name: "l.m.state", Type: mesh.TypeInt, Choices: &mesh.Choices{List: []mesh.Choice{{Number: 6, Text: "Execute"}}}},
		{ID: 2, Name: "=l.m.text", Type: mesh.TypeString},
		{ID: 3, Name: "l.m.list", Type: mesh.TypeArray},
	})
	if err != nil {
		t.Fatal(err)
	}
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	list := mesh.Item{Value: mesh.Value{Type: mesh.TypeArray}, Of: mesh.TypeInt}
	for i := range 20 {
		list.Items = append(list.Items, mesh.Item{Value: mesh.Int(int64(i))})
	}
	for i := range 4 {
		at := mesh.Nanos(i) * 1e9
		batch := mesh.Batch{Source: "press", Table: table.Hash(), Samples: []mesh.Sample{
			{Signal: 1, Time: at + 1, Source: at + 1, Server: at + 2, Agent: at + 3, Seq: 1 << 60, Value: mesh.Int(6), Status: mesh.StatusGood},
			{Signal: 2, Time: at + 2, Value: mesh.Text("=cmd|' /c calc'!A0"), Status: mesh.StatusBad, Flags: mesh.FlagInitial | mesh.FlagSuspect},
			{Signal: 2, Time: at + 3, Value: mesh.Text(strings.Repeat("x", 2*maxShownText))},
			{Signal: 3, Time: at + 4, Value: mesh.Value{Type: mesh.TypeArray, Bytes: wire.AppendItem(nil, list)}},
			{Signal: 2, Time: at + 5, Value: mesh.Text("a\n\"b\",c")},
		}}
		sealed, err := enc.Seal(&batch)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Append(t.Context(), []mesh.Offer{{Source: "press", Sealed: [][]byte{sealed}, Descriptors: []mesh.Descriptor{table}}}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// exportedAs has an export of a window in a form.
func exportedAs(t *testing.T, b *buffer.Buffer, form Form, from, to mesh.Nanos) (string, *rows) {
	t.Helper()
	var frames, out bytes.Buffer
	q := status.ExportQuery{From: instant(from), To: instant(to)}
	if _, err := (keeper{b}).Export(t.Context(), &frames, q); err != nil {
		t.Fatal(err)
	}
	x, err := newRows(&out, form, mesh.Span{From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.read(&frames); err != nil {
		t.Fatal(err)
	}
	return out.String(), x
}

// A line for each sample of the window, whole and as it is; what stands beside it is counted.
func TestExport_ALineForEachSample(t *testing.T) {
	b := stored(t)
	text, x := exportedAs(t, b, JSONL, 1e9+2, 2e9+4)
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) != 7 || x.samples != 7 || x.outside != 3 || x.unread != 0 || x.times != (mesh.Span{From: 1e9 + 2, To: 2e9 + 3}) {
		t.Fatalf("%d lines, %+v", len(lines), x)
	}
	var first, state, list Row
	for i, to := range map[int]*Row{0: &first, 3: &list, 4: &state} {
		if err := json.Unmarshal([]byte(lines[i]), to); err != nil {
			t.Fatal(err)
		}
	}
	if first.Signal != "=l.m.text" || first.Value != "=cmd|' /c calc'!A0" || first.Quality != "bad" || len(first.Notes) != 2 || first.StatusCode != uint32(mesh.StatusBad) {
		t.Errorf("%+v", first)
	}
	if state.Value != "6" || state.Means != "Execute" || state.Seq != "1152921504606846976" || state.SourceTime != "1970-01-01T00:00:02.000000001Z" || state.ServerTime != "1970-01-01T00:00:02.000000002Z" || state.AgentTime != "1970-01-01T00:00:02.000000003Z" || !strings.HasPrefix(state.Record, "agent/graz/gw-1@") {
		t.Errorf("%+v", state)
	}
	if want := "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]"; list.Value != want {
		t.Errorf("%q, want %q", list.Value, want)
	}
	if !strings.Contains(text, strings.Repeat("x", 2*maxShownText)+`"`) {
		t.Error("a long text is cut")
	}
}

// A spreadsheet runs nothing of what a device says.
func TestExport_CellsAreNoFormulas(t *testing.T) {
	text, x := exportedAs(t, stored(t), CSV, 1, 10e9)
	all, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(all) != 21 || x.samples != 20 || strings.Join(all[0], ",") != strings.Join(rowColumns(), ",") {
		t.Fatalf("%d lines, %+v, %v", len(all), x, err)
	}
	for _, row := range all[1:] {
		for i, cell := range row {
			if strings.ContainsAny(cell[:min(len(cell), 1)], "=+@\t\r") {
				t.Errorf("%s is %q", all[0][i], cell)
			}
		}
	}
	if got := all[2]; got[2] != "'=l.m.text" || got[4] != "'=cmd|' /c calc'!A0" || got[9] != "initial; its time is ahead of this gateway's clock" {
		t.Errorf("%q", got)
	}
	if all[4][4] != "a\n\"b\",c" {
		t.Errorf("%q", all[4])
	}
}

// What can't be opened is counted, not passed over; and a stick that is full ends it.
func TestExport_SaysWhatIsWrong(t *testing.T) {
	b := stored(t)
	var frames, out bytes.Buffer
	if _, err := (keeper{b}).Export(t.Context(), &frames, status.ExportQuery{}); err != nil {
		t.Fatal(err)
	}
	x, err := newRows(&out, CSV, mesh.Span{From: 0, To: 1e15})
	if err != nil {
		t.Fatal(err)
	}
	var records []byte
	for rest := frames.Bytes(); len(rest) > 0; {
		kind, frame, left, err := wire.Next(rest)
		if err != nil {
			t.Fatal(err)
		}
		if rest = left; kind == wire.FrameRecord { // their signal table is missing
			records = append(records, frame...)
		}
	}
	if err := x.read(bytes.NewReader(records)); err != nil || x.unread != 4 || x.samples != 0 {
		t.Errorf("%d unread, %d samples, %v", x.unread, x.samples, err)
	}
	full := errors.New("no space left on device")
	if x, err = newRows(failing{full}, JSONL, mesh.Span{From: 0, To: 1e15}); err != nil {
		t.Fatal(err)
	}
	if err := x.read(&frames); !errors.Is(err, full) {
		t.Errorf("a full stick: %v", err)
	}
	if _, err := (keeper{b}).Export(t.Context(), &out, status.ExportQuery{From: "yesterday"}); err == nil {
		t.Error("a window of no time is taken")
	}
	if e, err := (keeper{b}).Export(t.Context(), &out, status.ExportQuery{From: "1960-01-01T00:00:00Z"}); err != nil || !strings.HasPrefix(e.Missing, "of what was before 1970-01-01T00:00:00.000000001Z nothing is here: ") {
		t.Errorf("%+v, %v", e, err)
	}
}

// A file of records becomes lines without an agent, too.
func TestLines_OfAFile(t *testing.T) {
	var frames, out bytes.Buffer
	if _, err := (keeper{stored(t)}).Export(t.Context(), &frames, status.ExportQuery{}); err != nil {
		t.Fatal(err)
	}
	e, err := Lines(&out, &frames, JSONL, instant(1e9), instant(2e9))
	if err != nil || e.Samples != 5 || e.Outside != 15 || e.First != instant(1e9+1) || e.Last != instant(1e9+5) || strings.Count(out.String(), "\n") != 5 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := Lines(&out, strings.NewReader("no frames at all"), CSV, "", ""); err == nil {
		t.Error("junk is read")
	}
	if _, err := Lines(&out, &frames, CSV, "yesterday", ""); err == nil {
		t.Error("a window of no time is taken")
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A window shows what touches it, whether it waits or not, and the newest of it with --last.
func TestPeek_OfAWindow(t *testing.T) {
	b := stored(t)
	for name, c := range map[string]struct {
		q    status.PeekQuery
		want string
	}{
		"the second and the third": {status.PeekQuery{From: instant(1e9), To: instant(2e9 + 2)}, "1.000000001 2.000000001"},
		"one of them":              {status.PeekQuery{From: instant(1e9), To: instant(3e9), Limit: 1}, "1.000000001"},
		"the newest of them":       {status.PeekQuery{From: instant(1e9), To: instant(3e9), Limit: 1, Last: true}, "2.000000001"},
		"from then on":             {status.PeekQuery{From: instant(2e9)}, "2.000000001 3.000000001"},
		"until then":               {status.PeekQuery{To: instant(1e9), Source: "press"}, "0.000000001"},
		"of another":               {status.PeekQuery{To: instant(1e9), Source: "filler"}, ""},
		"later":                    {status.PeekQuery{From: instant(100e9)}, ""},
	} {
		if c.q.Limit == 0 {
			c.q.Limit = 10
		}
		got, err := (keeper{b}).Peek(t.Context(), c.q)
		var times []string
		for _, r := range got {
			if r.Kind == "batch" {
				times = append(times, strings.TrimSuffix(strings.TrimPrefix(r.From, "1970-01-01T00:00:0"), "Z"))
			}
		}
		if err != nil || strings.Join(times, " ") != c.want {
			t.Errorf("%s: %q, %v, want %q", name, times, err, c.want)
		}
	}
	if _, err := (keeper{b}).Peek(t.Context(), status.PeekQuery{From: "x", Limit: 1}); err == nil {
		t.Error("a window of no time is taken")
	}
}

// A backtest of a file needs no agent, and no other source's samples.
func TestBacktest_OfAFile(t *testing.T) {
	c, dir, err := load(t, files())
	if err != nil {
		t.Fatal(err)
	}
	var frames bytes.Buffer
	if _, err := (keeper{stored(t)}).Export(t.Context(), &frames, status.ExportQuery{}); err != nil {
		t.Fatal(err)
	}
	export, rules := filepath.Join(dir, "kept.frames"), filepath.Join(dir, "r.yaml")
	for name, content := range map[string][]byte{export: frames.Bytes(), rules: []byte("revision: 1\nrules:\n  - {id: calm, kind: enumeration, signal: l.m.state, values: [1]}\n")} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := c.BacktestFile("", []string{rules}, export); err != nil || b.Samples != 20 || b.Marked != 4 || len(b.Found) != 1 || b.Found[0].Rule != "calm" {
		t.Errorf("%+v, %v", b, err)
	}
	if b, err := c.BacktestFile("filler", []string{rules}, export); err != nil || b.Samples != 0 || len(b.Nothing) != 1 {
		t.Errorf("of another source: %+v, %v", b, err)
	}
	if b, err := c.BacktestFile("", nil, export); err != nil || b.Samples != 20 || len(b.Nothing) != 2 {
		t.Errorf("by rules.d: %+v, %v", b, err)
	}
	if _, err := c.BacktestFile("", nil, rules); !errors.Is(err, ErrNoExport) {
		t.Errorf("a file of rules is read: %v", err)
	}
}
