package hub

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/port/parquet"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// spoken is a hub's data folder with two days of a source, the first half of
// them compacted: a whole number no double can hold, a double and a text a
// minute, each batch sent twice.
func spoken(t *testing.T, cfg Config) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(cfg.Data, "hub.db"), quiet())
	check(t, err)
	o, err := s.OpenLog(t.Context(), 0)
	check(t, err)
	table, err := wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "line1.press.produced", Unit: "C62"}, {ID: 2, Name: "line1.press.speed"}, {ID: 3, Name: "elsewhere.text"}})
	check(t, err)
	enc, err := wire.NewEncoder()
	check(t, err)
	acc := &mesh.Account{Log: "agent/graz/gw-1"}
	at := mesh.Position{Log: acc.Log, Epoch: mesh.Epoch{5}}
	check(t, acc.Open(at.Epoch, mesh.Opening{}))
	var entries []mesh.Entry
	start := mesh.NanosOf(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	for hour := range 96 { // each hour twice
		b := mesh.Batch{Source: "press", Table: table.Hash()}
		for m := range mesh.Nanos(60) {
			when := start + (mesh.Nanos(hour/2)*60+m)*60e9 + 1
			b.Samples = append(b.Samples,
				mesh.Sample{Signal: 1, Time: when, Agent: when + 5, Value: mesh.Int(1<<53 + 1 + int64(m))},
				mesh.Sample{Signal: 2, Time: when, Value: mesh.Double(float64(m) / 10), Status: mesh.StatusUncertainLast},
				mesh.Sample{Signal: 3, Time: when, Value: mesh.Text("t"), Seq: uint64(m)})
		}
		sealed, err := enc.Seal(&b)
		check(t, err)
		h, err := wire.ParseHeader(sealed)
		check(t, err)
		at.Seq++
		v := &mesh.Verdict{Of: at, Revision: 1, Rules: mesh.Hash{1}, Marks: []mesh.Mark{{Index: 61, Rule: "odd", Action: mesh.ActionQuarantine}}}
		entries = append(entries, mesh.Entry{Of: at, Header: h, Sealed: sealed, Verdict: v})
	}
	end, err := s.Take(t.Context(), mesh.Take{After: o.End, Entries: entries, Accounts: []*mesh.Account{acc}, Descriptors: []mesh.Descriptor{table}})
	check(t, err)
	end.Seq -= 49
	done, err := s.Compact(t.Context(), store.Pass{Through: end, Now: start})
	check(t, err)
	if done.Samples != 47*180 {
		t.Fatalf("%+v", done)
	}
	return s
}

// An export beside a running hub has every sample once, with its types, over
// chunks and batches.
func TestExport_HasEverySampleOnce(t *testing.T) {
	cfg := testConfig(t)
	s := spoken(t, cfg)
	defer func() { check(t, s.Close()) }()
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	r := ExportRequest{From: day.AddDate(0, 0, -1), To: day.AddDate(0, 0, 2), Out: t.TempDir()}
	files, err := Export(t.Context(), cfg, r, quiet())
	check(t, err)
	if len(files) != 2 {
		t.Fatalf("%+v", files)
	}
	for i, f := range files {
		if want := filepath.Join(r.Out, "product=signals", "date="+day.AddDate(0, 0, i).Format(time.DateOnly), "part-1.parquet"); f.Path != want || f.Rows != 3*1440 {
			t.Errorf("%+v, want %s", f, want)
		}
		rows, err := parquet.Read(f.Path)
		check(t, err)
		for k, x := range rows {
			tag, m := k/1440, k%1440
			at := day.AddDate(0, 0, i).Add(time.Duration(m) * time.Minute).UnixNano()
			switch {
			case x.TS != at+1 || x.Source != "press" || x.Tag != []string{"elsewhere.text", "line1.press.produced", "line1.press.speed"}[tag]:
				t.Fatalf("row %d is %+v", k, x)
			case tag == 0 && (x.Equipment != "" || x.Type != "string" || *x.Text != "t" || x.DeviceSeq != uint64(m%60)):
				t.Fatalf("row %d is %+v", k, x)
			case tag == 1 && (x.Equipment != "line1-press" || x.Type != "int" || *x.Int != 1<<53+1+int64(m%60) || x.AgentTS != at+6 || x.Unit != "C62" || len(x.Marks) > 0):
				t.Fatalf("row %d is %+v", k, x)
			case tag == 2 && (x.Type != "double" || *x.Double != float64(m%60)/10 || x.Status != uint32(mesh.StatusUncertainLast) || x.Int != nil):
				t.Fatalf("row %d is %+v", k, x)
			case tag == 2 && (m%60 == 1) != (fmt.Sprint(x.Marks) == "[{odd quarantine}]"):
				t.Fatalf("row %d is %+v", k, x)
			}
		}
	}
	if files, err = Export(t.Context(), cfg, r, quiet()); err != nil || len(files) != 2 || filepath.Base(files[0].Path) != "part-2.parquet" {
		t.Errorf("%+v, %v", files, err)
	}
	r.Equipment, r.To = []string{"line1-press"}, day
	if _, err = Export(t.Context(), cfg, r, quiet()); !errors.Is(err, ErrUsage) {
		t.Errorf("a part takes the place of the whole: %v", err)
	}
	r.Out = t.TempDir()
	if files, err = Export(t.Context(), cfg, r, quiet()); err != nil || len(files) != 1 || files[0].Rows != 2*1440 {
		t.Errorf("%+v, %v", files, err)
	}
}

// What has fields, items or names is in the files as people read it, beside the body that
// is stored: an event's message is no use inside of bytes.
func TestExport_BodiesCanBeRead(t *testing.T) {
	cfg := testConfig(t)
	s, err := store.Open(t.Context(), filepath.Join(cfg.Data, "hub.db"), quiet())
	check(t, err)
	defer func() { check(t, s.Close()) }()
	o, err := s.OpenLog(t.Context(), 0)
	check(t, err)
	table, err := wire.DescribeSignals([]mesh.Signal{
		{ID: 1, Name: "line1.press.alarms", Type: mesh.TypeEvent, Fields: []mesh.Field{{Name: "message", Type: mesh.TypeString}, {Name: "severity", Type: mesh.TypeUint}, {Name: "active", Type: mesh.TypeBool}}},
		{ID: 2, Name: "line1.press.curve", Type: mesh.TypeArray, Fields: []mesh.Field{{Type: mesh.TypeDouble}}},
		{ID: 3, Name: "line1.press.gate", Type: mesh.TypeInt, Choices: &mesh.Choices{List: []mesh.Choice{{Number: 2, Text: "open"}}}},
		{ID: 4, Name: "line1.press.raw", Type: mesh.TypeBytes},
	})
	check(t, err)
	body := func(i mesh.Item) mesh.Value { return mesh.Value{Type: i.Value.Type, Bytes: wire.AppendItem(nil, i)} }
	when := mesh.NanosOf(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))
	alarm := mesh.Item{Value: mesh.Value{Type: mesh.TypeEvent}, Items: []mesh.Item{{Value: mesh.Text("too \"hot\"")}, {Value: mesh.Uint(700)}, {}}}
	curve := mesh.Item{Value: mesh.Value{Type: mesh.TypeArray}, Of: mesh.TypeDouble, Items: []mesh.Item{{Value: mesh.Double(1.5)}, {Value: mesh.Double(-2)}}}
	b := mesh.Batch{Source: "press", Table: table.Hash(), Samples: []mesh.Sample{
		{Signal: 1, Time: when, Value: body(alarm)},
		{Signal: 2, Time: when, Value: body(curve)},
		{Signal: 3, Time: when, Value: mesh.Int(2)},
		{Signal: 3, Time: when + 1, Value: mesh.Int(3)},
		{Signal: 4, Time: when, Value: mesh.Value{Type: mesh.TypeBytes, Bytes: []byte{0, 1}}},
	}}
	enc, err := wire.NewEncoder()
	check(t, err)
	sealed, err := enc.Seal(&b)
	check(t, err)
	h, err := wire.ParseHeader(sealed)
	check(t, err)
	acc := &mesh.Account{Log: "agent/graz/gw-1"}
	at := mesh.Position{Log: acc.Log, Epoch: mesh.Epoch{5}, Seq: 2}
	check(t, acc.Open(at.Epoch, mesh.Opening{}))
	_, err = s.Take(t.Context(), mesh.Take{After: o.End, Entries: []mesh.Entry{{Of: at, Header: h, Sealed: sealed}}, Accounts: []*mesh.Account{acc}, Descriptors: []mesh.Descriptor{table}})
	check(t, err)

	files, err := Export(t.Context(), cfg, ExportRequest{From: when.Time().Truncate(24 * time.Hour), To: when.Time().Truncate(24 * time.Hour), Out: t.TempDir()}, quiet())
	check(t, err)
	if len(files) != 1 {
		t.Fatalf("%+v", files)
	}
	rows, err := parquet.Read(files[0].Path)
	check(t, err)
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprintf("%s %s %s %d %s", r.Tag, r.Type, r.JSON, len(r.Bytes), r.Words))
	}
	want := []string{
		fmt.Sprintf(`line1.press.alarms event {"message":"too \"hot\"","severity":700} %d `, len(b.Samples[0].Value.Bytes)),
		fmt.Sprintf("line1.press.curve array [1.5,-2] %d ", len(b.Samples[1].Value.Bytes)),
		"line1.press.gate int  0 open", "line1.press.gate int  0 ", "line1.press.raw bytes  2 ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the file has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestExport_Refuses(t *testing.T) {
	cfg := testConfig(t)
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	out := t.TempDir()
	for want, r := range map[error][]ExportRequest{
		ErrUsage: {{From: day, To: day.AddDate(0, 0, -1), Out: out}, {From: day, To: day.AddDate(20, 0, 0), Out: out}},
		ErrData:  {{From: day, To: day, Out: out}},
	} {
		for i := range r {
			if _, err := Export(t.Context(), cfg, r[i], quiet()); !errors.Is(err, want) {
				t.Errorf("%+v: %v", r[i], err)
			}
		}
	}
	if files, err := os.ReadDir(out); err != nil || len(files) > 0 {
		t.Errorf("%v %v", files, err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Data, "hub.db")); err == nil {
		t.Error("an export made a database")
	}
	newSpeaker(t, cfg)
	if _, err := Export(t.Context(), cfg, ExportRequest{From: day, To: day, Out: out, Equipment: []string{"nobody"}}, quiet()); !errors.Is(err, ErrUsage) {
		t.Errorf("a machine that the site has not: %v", err)
	}
}
