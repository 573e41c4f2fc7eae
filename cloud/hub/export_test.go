package hub

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

func TestExport_Refuses(t *testing.T) {
	cfg := testConfig(t)
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	out := t.TempDir()
	for want, r := range map[error][]ExportRequest{
		ErrUsage: {{From: day, To: day.AddDate(0, 0, -1), Out: out}, {From: day, To: day.AddDate(20, 0, 0), Out: out}, {From: day, To: day, Out: out, Equipment: []string{"nobody"}}},
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
}
