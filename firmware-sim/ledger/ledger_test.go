package ledger

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"plantmesh/firmware-sim/plant"
)

func emissions() []plant.Emission {
	at := time.UnixMilli(1772341200123).UTC()
	of := func(i uint64, status uint32, v plant.Value) plant.Emission {
		return plant.Emission{Source: "line1-opcua", Index: i, Signal: "line1.filler.state", Time: at, Emitted: at.Add(5 * time.Second), Status: status, Value: v}
	}
	return []plant.Emission{
		of(1, plant.Good, plant.Value{Type: plant.Int, I: math.MinInt32}),
		of(2, plant.BadNoData, plant.Value{}),
		of(3, plant.Good, plant.Value{Type: plant.Double, F: 0.1 + 0.2}),
		of(4, plant.Good, plant.Value{Type: plant.String, S: "a, \"b\"\nc"}),
		of(5, plant.Good, plant.Value{Type: plant.Bool, B: true}),
	}
}

func TestLedger_SaysWhatItWasTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.txt")
	all := emissions()
	for i := range 2 { // the second opening goes on behind the first
		l, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Emitted(all[:3]); i == 0 && err != nil {
			t.Fatal(err)
		}
		if err := l.Emitted(all[3:]); i == 1 && err != nil {
			t.Fatal(err)
		}
		l.Received("line1-opcua", []uint64{3, 1, 5})
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		l.Received("line1-opcua", []uint64{2})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("a second close: %v", err)
		}
		if err := l.Emitted(all); err == nil {
			t.Error("a closed ledger took more")
		}
		torn, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := torn.WriteString("E,line1-opcua,6,line1.fil"); err != nil {
			t.Fatal(err)
		}
		if err := torn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Emitted["line1-opcua"]; !slices.Equal(got, all) {
		t.Errorf("read %+v", got)
	}
	if got, want := b.Received["line1-opcua"], []Range{{1, 3}, {5, 5}}; !reflect.DeepEqual(got, want) {
		t.Errorf("received %v, want %v", got, want)
	}
}

func TestLedger_RefusesADamagedLine(t *testing.T) {
	for name, line := range map[string]string{
		"no entry":  "hello\n",
		"no number": "R,line1-opcua,1,x\n",
		"few":       "E,line1-opcua,1\n",
		"type":      "E,s,1,a.b.c,1,1,0,complex,1\n",
		"value":     "E,s,1,a.b.c,1,1,0,int,one\n",
	} {
		path := filepath.Join(t.TempDir(), "ledger.txt")
		if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil {
			t.Errorf("%s: read without a word", name)
		}
	}
}

// TestLedger_SyncsBeforeItReturns: a pipe takes writes and can't be synced, so
// a ledger on one must say that what it was told is not durable.
func TestLedger_SyncsBeforeItReturns(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a pipe can be flushed here")
	}
	for name, tell := range map[string]func(*Ledger) error{
		"emitted":  func(l *Ledger) error { return l.Emitted(emissions()) },
		"received": func(l *Ledger) error { l.Received("line1-opcua", []uint64{1, 2}); return l.Sync() },
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		l := &Ledger{file: w, received: map[string][]uint64{}}
		if err := tell(l); err == nil {
			t.Errorf("%s: told without a sync", name)
		}
		if err := errors.Join(r.Close(), w.Close()); err != nil {
			t.Error(err)
		}
	}
}
