package parquet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	pq "github.com/parquet-go/parquet-go"

	"plantmesh/cloud/port"
)

// sample is a row of product signals as a reader declares it.
type sample struct {
	Equipment   *string  `parquet:"equipment"`
	Flags       *string  `parquet:"flags"`
	Signal      *string  `parquet:"signal"`
	Status      *int64   `parquet:"status"`
	Time        *int64   `parquet:"time,timestamp(microsecond)"`
	Type        *string  `parquet:"type"`
	ValueBool   *bool    `parquet:"value_bool"`
	ValueDouble *float64 `parquet:"value_double"`
	ValueInt    *int64   `parquet:"value_int"`
	ValueJSON   *string  `parquet:"value_json"`
	ValueString *string  `parquet:"value_string"`
	ValueUint   *uint64  `parquet:"value_uint"`
}

func columns() []port.Column {
	return []port.Column{{Name: "signal", Type: Text}, {Name: "equipment", Type: Text}, {Name: "time", Type: Instant}, {Name: "value", Type: Any}, {Name: "type", Type: Text}, {Name: "status", Type: Integer}, {Name: "flags", Type: "array"}}
}

func fields(t *testing.T, text string) port.Fields {
	t.Helper()
	var f port.Fields
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, file []byte) (out []sample, f *pq.File) {
	t.Helper()
	f, err := pq.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	r := pq.NewGenericReader[sample](f)
	out = make([]sample, f.NumRows())
	if n, err := r.Read(out); n != len(out) || err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(n, err)
	}
	return out, f
}

func TestTable_KeepsTypes(t *testing.T) {
	var b bytes.Buffer
	w, err := NewTable(&b, "signals", "1.0.0", columns())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		`{"signal":"c","time":"2026-03-01T06:00:00.250Z","value":9223372036854775807,"type":"int","status":0,"flags":["initial"],"more":1}`,
		`{"signal":"d","time":"2026-03-01T06:00:00.000Z","value":18446744073709551615,"type":"uint","status":0}`,
		`{"signal":"a","time":"2026-03-01T06:00:01.000Z","value":21.5,"type":"double","status":0}`,
		`{"signal":"a","time":"2026-03-01T06:00:00.000Z","value":true,"type":"bool","status":2150891520}`,
		`{"signal":"b","time":"2026-03-01T06:00:00.000Z","value":"pils \"033\"\n","type":"string","status":0}`,
		`{"signal":"b","time":"2026-03-01T06:00:00.500Z","value":"abc","type":"bytes","status":0}`,
		`{"signal":"b","time":"2026-03-01T06:00:05.000Z","value":null,"type":"none","status":0}`,
		`{"signal":"e","time":"2026-03-01T06:00:05.000Z","value":{"State":0,"List":[1,2]},"type":"struct","status":0}`,
	} {
		if err := w.Add(fields(t, row)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	rows, f := read(t, b.Bytes())
	var got []string
	for _, r := range rows {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b))
	}
	text := strings.Join(got, "\n")
	for i, want := range []string{
		`"Signal":"a","Status":2150891520,"Time":1772344800000000,"Type":"bool","ValueBool":true,"ValueDouble":null`,
		`"Signal":"a","Status":0,"Time":1772344801000000,"Type":"double","ValueBool":null,"ValueDouble":21.5,"ValueInt":null`,
		`"ValueString":"pils \"033\"\n"`,
		`"Type":"bytes","ValueBool":null,"ValueDouble":null,"ValueInt":null,"ValueJSON":null,"ValueString":"abc"`,
		`"ValueBool":null,"ValueDouble":null,"ValueInt":null,"ValueJSON":null,"ValueString":null,"ValueUint":null`,
		`"ValueInt":9223372036854775807`,
		`"ValueUint":18446744073709551615`,
		`"Type":"struct","ValueBool":null,"ValueDouble":null,"ValueInt":null,"ValueJSON":"{\"State\":0,\"List\":[1,2]}","ValueString":null`,
	} {
		if i >= len(got) || !strings.Contains(got[i], want) {
			t.Errorf("row %d lacks %s; all:\n%s", i, want, text)
		}
	}
	if v, ok := f.Lookup("plantmesh.product"); !ok || v != "signals" {
		t.Errorf("the file does not say whose it is: %q", v)
	}
}

func TestTable_RowGroupsAreSorted(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: 132,072 rows for one property, with no goroutine; it runs without -short")
	}
	var b bytes.Buffer
	w, err := NewTable(&b, "signals", "1.0.0", columns())
	if err != nil {
		t.Fatal(err)
	}
	const n = groupRows + 1000
	for i := range n {
		at := (i * 7919) % n
		row := port.Fields{
			"signal": json.RawMessage(fmt.Sprintf(`"s%d"`, i%10)), "type": json.RawMessage(`"int"`), "value": json.RawMessage(strconv.Itoa(i)),
			"time": json.RawMessage(fmt.Sprintf(`"2026-03-01T%02d:%02d:%02d.000Z"`, at/3600%24, at/60%60, at%60)),
		}
		if err := w.Add(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	rows, f := read(t, b.Bytes())
	if len(rows) != n || w.Rows() != n || len(f.RowGroups()) != 2 || len(f.RowGroups()[0].SortingColumns()) != 2 {
		t.Fatalf("%d rows in %d groups", len(rows), len(f.RowGroups()))
	}
	for i := 1; i < groupRows; i++ {
		x, y := rows[i-1], rows[i]
		if *x.Signal > *y.Signal || *x.Signal == *y.Signal && *x.Time > *y.Time {
			t.Fatalf("row %d is out of order", i)
		}
	}
}

// Long texts don't wait for 128 Ki rows.
func TestTable_LongTextsGoOut(t *testing.T) {
	var b bytes.Buffer
	w, err := NewTable(&b, "signals", "1.0.0", columns())
	if err != nil {
		t.Fatal(err)
	}
	const n, size = 300, 60 << 10
	for i := range n {
		f := fields(t, `{"signal":"c","time":"2026-03-01T06:00:00.250Z","type":"string","status":0}`)
		f["value"] = json.RawMessage(fmt.Sprintf(`"%07d%s"`, i, strings.Repeat("x", size)))
		if err := w.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	if w.bytes > groupBytes || b.Len() < 1000 {
		t.Errorf("%d bytes are held and %d written", w.bytes, b.Len())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if rows, f := read(t, b.Bytes()); len(rows) != n || len(f.RowGroups()) != 2 {
		t.Errorf("%d rows in %d groups", len(rows), len(f.RowGroups()))
	}
}

func TestTable_AnEmptyFileIsOne(t *testing.T) {
	var b bytes.Buffer
	w, err := NewTable(&b, "signals", "1.0.0", columns())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if rows, _ := read(t, b.Bytes()); len(rows) != 0 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestTable_NamesWhatItCannotTake(t *testing.T) {
	w, err := NewTable(io.Discard, "x", "1.0.0", []port.Column{{Name: "n", Type: Integer}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(port.Fields{"n": json.RawMessage(`"many"`)}); err == nil || !strings.Contains(err.Error(), "column n") {
		t.Errorf("error %v", err)
	}
	if _, err := NewTable(io.Discard, "x", "1.0.0", []port.Column{{Name: "n", Type: Any}, {Name: "n_int", Type: Integer}}); err == nil {
		t.Error("two columns of one name")
	}
	if got, err := value(Integer, json.RawMessage("1e3")); err != nil || got.Int64() != 1000 {
		t.Errorf("a whole number: %v, %v", got, err)
	}
	if _, err := value(Integer, json.RawMessage("1.5")); err == nil {
		t.Error("a fraction is no integer")
	}
	if got, err := value(Number, json.RawMessage("-0")); err != nil || !math.Signbit(got.Double()) {
		t.Errorf("minus zero: %v, %v", got, err)
	}
}
