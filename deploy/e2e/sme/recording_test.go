package sme

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// repo is the project's root.
func repo(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}

// recording is the path of the recording beside the project, or skips.
func recording(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(repo(t), "..", "shared", "data", "sme_manufacturing", "*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		const absent = "the recording is not in ../shared/data/sme_manufacturing"
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "shared") {
			t.Fatal(absent)
		}
		t.Skip(absent)
	}
	return found[0]
}

// doing is a status as the products say it.
type doing struct {
	mode   string // MachineryOperationMode
	packml int
}

// doings are the recorded statuses: manual, automatic, alarm.
func doings() map[string]doing {
	return map[string]doing{"1.0": {"setup", 6}, "2.0": {"processing", 6}, "3.0": {"processing", 9}}
}

type machineDay struct{ machine, day string }

// sums are what one machine did in one UTC day.
type sums struct {
	items, kj int64
	seconds   map[doing]float64 // whole numbers
}

func (s *sums) known() (n float64) {
	for _, x := range s.seconds {
		n += x
	}
	return n
}

// totals are sums by machine and day.
type totals map[machineDay]*sums

func (m totals) of(machine string, at time.Time) *sums {
	k := machineDay{machine, at.UTC().Format(time.DateOnly)}
	if m[k] == nil {
		m[k] = &sums{seconds: map[doing]float64{}}
	}
	return m[k]
}

// direct computes from the file alone. A segment belongs to the day it starts
// in. Power is in whole kilowatts and time in whole seconds, so energy is a
// whole number of kilojoules.
func direct(t *testing.T, path string) totals {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for i, name := range rows[0] {
		at[name] = i
	}
	out := totals{}
	for _, r := range rows[1:] {
		number := func(column string) int64 {
			v, err := strconv.ParseInt(strings.TrimSuffix(r[at[column]], ".0"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		end, err := time.Parse("2006-01-02 15:04:05-07:00", r[at["ts"]])
		if err != nil {
			t.Fatal(err)
		}
		seconds := number("status_time")
		s := out.of("machine"+r[at["asset"]], end.Add(-time.Duration(seconds)*time.Second))
		s.items += number("items")
		s.kj += number("power_avg") * seconds
		as, ok := doings()[r[at["status"]]]
		if !ok {
			t.Fatalf("the recording has status %s", r[at["status"]])
		}
		s.seconds[as] += float64(seconds)
	}
	return out
}
