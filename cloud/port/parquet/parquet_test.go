package parquet

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	pq "github.com/parquet-go/parquet-go"
)

func day() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) }

func rows() []Row {
	at := day().UnixNano()
	odd := int64(1<<53 + 1) // a number that no double can hold
	big, nan, yes, text := uint64(math.MaxUint64), math.Copysign(0, -1), true, "ü\x00"
	return []Row{
		{Tag: "a.count", TS: at, Type: "int", Int: &odd, Equipment: "a", Source: "s", Unit: "C62", Marks: []Mark{{"r1", "quarantine"}, {"r2", "annotate"}}, Status: 0x80000000},
		{Tag: "a.count", TS: at + 1, Type: "uint", Uint: &big, SourceTS: at, DeviceSeq: 7, Flags: 3},
		{Tag: "b.on", TS: at, Type: "bool", Bool: &yes},
		{Tag: "b.speed", TS: at, Type: "double", Double: &nan, ServerTS: at, AgentTS: at},
		{Tag: "b.text", TS: at, Type: "string", Text: &text},
		{Tag: "b.text", TS: at, Type: "bytes", Bytes: []byte{0, 1}},
		{Tag: "b.text", TS: at, Type: "event", Bytes: []byte{9, 0}, JSON: "{}"},
		{Tag: "b.text", TS: at, Type: "int", Int: &odd, Words: "odd"},
		{Tag: "b.text", TS: at, Type: "none"},
	}
}

// What is written is read back with its types and to the bit.
func TestFile_KeepsTypes(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(dir, "signals", day())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write(rows()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.path); err == nil {
		t.Error("the file is to be seen before it is whole")
	}
	path, n, size, err := f.Commit()
	if err != nil || n != int64(len(rows())) || path != filepath.Join(dir, "product=signals", "date=2026-03-01", "part-1.parquet") {
		t.Fatalf("%s %d, %v", path, n, err)
	}
	if i, err := os.Stat(path); err != nil || i.Size() != size {
		t.Errorf("%d bytes, %v", size, err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	want := rows()
	for i := range want {
		if len(got[i].Marks) == 0 {
			got[i].Marks = nil
		}
		if len(got[i].Bytes) == 0 {
			got[i].Bytes = nil
		}
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("row %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	if math.Signbit(*got[3].Double) != true {
		t.Error("-0 became 0")
	}
	if err := f.Abort(); err != nil {
		t.Error(err)
	}
	mustHold(t, path, "part-1.parquet")
}

func mustHold(t *testing.T, path string, names ...string) {
	t.Helper()
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("the folder holds %v, want %v", got, names)
	}
}

func TestFile_ALaterOneTakesThePlace(t *testing.T) {
	dir := t.TempDir()
	var path string
	for range 3 {
		f, err := Create(dir, "signals", day())
		if err != nil {
			t.Fatal(err)
		}
		if path, _, _, err = f.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	mustHold(t, path, "part-3.parquet")
	f, err := Create(dir, "signals", day())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Write(rows()[:1]), f.Abort()); err != nil {
		t.Fatal(err)
	}
	mustHold(t, path, "part-3.parquet")
}

func TestFile_RefusesRowsOutOfOrder(t *testing.T) {
	f, err := Create(t.TempDir(), "signals", day())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Abort(); err != nil {
			t.Error(err)
		}
	}()
	all := rows()
	if err := f.Write([]Row{all[1], all[0]}); !errors.Is(err, errUnsorted) {
		t.Errorf("times that fall: %v", err)
	}
}

func TestFile_GroupsAreBounded(t *testing.T) {
	f, err := Create(t.TempDir(), "signals", day())
	if err != nil {
		t.Fatal(err)
	}
	some := make([]Row, 1000)
	for n := range 140 {
		for i := range some {
			some[i] = Row{Tag: "a", TS: int64(n*1000 + i), Type: "none"}
		}
		if err := f.Write(some); err != nil {
			t.Fatal(err)
		}
	}
	path, _, _, err := f.Commit()
	if err != nil {
		t.Fatal(err)
	}
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	i, err := r.Stat()
	if err != nil {
		t.Fatal(err)
	}
	file, err := pq.OpenFile(r, i.Size())
	if err != nil {
		t.Fatal(err)
	}
	if g := file.RowGroups(); len(g) != 2 || g[0].NumRows() != groupRows || len(g[0].SortingColumns()) != 2 {
		t.Errorf("%d groups, the first of %d rows, sorted by %v", len(g), g[0].NumRows(), g[0].SortingColumns())
	}
}

// A group of long texts ends early: it waits in memory until it does.
func TestFile_GroupsOfLongTextsAreSmall(t *testing.T) {
	f, err := Create(t.TempDir(), "signals", day())
	if err != nil {
		t.Fatal(err)
	}
	var all []Row
	for i := range 300 {
		all = append(all, Row{Tag: "a", TS: int64(i), Type: "string", Text: new(fmt.Sprintf("%07d%s", i, strings.Repeat("x", 60<<10)))})
	}
	if err := f.Write(all); err != nil {
		t.Fatal(err)
	}
	path, _, _, err := f.Commit()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Read(path)
	if err != nil || len(back) != len(all) || *back[299].Text != *all[299].Text {
		t.Fatalf("%d rows, %v", len(back), err)
	}
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	i, err := r.Stat()
	if err != nil {
		t.Fatal(err)
	}
	file, err := pq.OpenFile(r, i.Size())
	if err != nil || len(file.RowGroups()) != 2 {
		t.Errorf("%v, %v", file, err)
	}
}
