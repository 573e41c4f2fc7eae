package demo

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestCompareSamples_FindsWhatIsNotAsThePlantSays: each kind of finding, and what is
// as it should be is none.
func TestCompareSamples_FindsWhatIsNotAsThePlantSays(t *testing.T) {
	rows := []string{ // signal, ms, value, status
		`a 1 7 0`, `a 2 "x" 0`, `a 3 true 0`, `a 4 0.5 0`, `a 5 null 2147483648`, // as they were emitted
		`a 6 1 0`, `a 6 1 0`, // twice
		`a 7 2 0`, `a 8 1 5`, `b 9 1 0`, // another value, another status, never emitted
	}
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("equipment") != "line1-filler" {
			return
		}
		for _, row := range rows {
			f := strings.Fields(row)
			fmt.Fprintf(w, `{"signal":%q,"time":"1970-01-01T00:00:00.00%sZ","value":%s,"status":%s}`+"\n", f[0], f[1], f[2], f[3])
		}
	}))
	defer hub.Close()
	d := &demo{layout: layout{t.TempDir()}, plan: plan{listen: strings.TrimPrefix(hub.URL, "http://")}, err: io.Discard}
	var ledger strings.Builder
	for i, e := range []string{`0,int,7`, `0,string,"x"`, `0,bool,true`, `0,double,0.5`, `2147483648,int,`, `0,int,1`, `0,int,1`, `0,int,1`, `0,int,1`, `0,int,1`, `0,int,1`} {
		fmt.Fprintf(&ledger, "E,s,%d,a,%d,0,%s\n", i+1, i+1, e)
	}
	ledger.WriteString("R,s,10,10\n")
	if err := d.write("ledger.csv", ledger.String()); err != nil {
		t.Fatal(err)
	}
	var got tally
	gaps := map[string][]stretch{"s": {{7, 8}}} // 8 and 9 stand outside
	if err := d.compareSamples(t.Context(), gaps, &got); err != nil {
		t.Fatal(err)
	}
	want := tally{products: 1, rows: len(rows), mismatched: 3, duplicated: 1, lost: 1, unmarked: 3}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
