package replay

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"plantmesh/firmware-sim/plant"
)

const head = "ts,asset,items,status,status_time,power_avg,cycle_time,alarm,product\n"

func open(t *testing.T, rows string) (*Feed, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rec.csv")
	if err := os.WriteFile(path, []byte(head+rows), 0o600); err != nil {
		t.Fatal(err)
	}
	return Open(path, "maps/sme.yaml")
}

// lines writes emissions as "seconds role value".
func lines(f *Feed, base time.Time) (out []string) {
	for _, e := range f.Until(base.Add(time.Hour)) {
		v := strconv.FormatInt(e.Value.I, 10)
		switch {
		case e.Status == plant.BadNoData && e.Value.Type == plant.None:
			v = "none"
		case e.Value.Type == plant.String:
			v = e.Value.S
		}
		out = append(out, strconv.FormatFloat(e.Time.Sub(base).Seconds(), 'f', -1, 64)+" "+strings.TrimPrefix(e.Signal, "sme.machine0.")+" "+v)
	}
	return out
}

func TestFeed_SegmentsBecomeEmissions(t *testing.T) {
	f, err := open(t, `2026-03-01 00:00:10+00:00,0,4.0,2.0,10.0,2.0,0,0,7
2026-03-01 00:00:15+00:00,0,1.0,1.0,5.0,3.0,0,0,7
2026-03-01 00:00:15+00:00,0,2.0,1.0,0.0,9.0,0,0,7
2026-03-01 00:00:40+00:00,0,0.0,3.0,20.0,1.0,0,0,8
2026-03-01 00:00:20+00:00,0,3.0,2.0,0.0,1.0,0,0,8
`)
	if err != nil {
		t.Fatal(err)
	}
	base := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	want := []string{
		"-0.001 produced 0", "-0.001 energy_kj 0",
		"0 state 6", "0 mode 1", "0 product 7", "0 produced 4", "0 energy_kj 20",
		"10 state 6", "10 mode 3", "10 product 7", "10 produced 5", "10 energy_kj 35", // touches: no silence between
		"15 produced 7", "15 energy_kj 35", "15 state none", // one of no length only counts
		"20 state 9", "20 mode 1", "20 product 8", "20 produced 10", "20 energy_kj 55",
		"40 state none",
	}
	got := lines(f, base)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !f.Start().Equal(base.Add(-time.Millisecond)) || !f.End().Equal(base.Add(40*time.Second)) {
		t.Errorf("from %v to %v", f.Start(), f.End())
	}
}

func TestFeed_UntilGoesOn(t *testing.T) {
	f, err := open(t, "2026-03-01 00:00:10+00:00,0,4.0,2.0,10.0,2.0,0,0,7\n2026-03-01 00:00:10+00:00,1,4.0,2.0,5.0,2.0,0,0,7\n")
	if err != nil {
		t.Fatal(err)
	}
	var last plant.Emission
	n := uint64(0)
	for at := f.Start(); !at.After(f.End()); at = at.Add(time.Millisecond) {
		for _, e := range f.Until(at) {
			n++
			if !e.Emitted.Equal(at) || e.Emitted.Before(last.Emitted) || e.Index != n {
				t.Fatalf("at %v came %+v", at, e)
			}
			last = e
		}
	}
	if n != 2*8 {
		t.Errorf("%d emissions", n)
	}
}

func TestOpen_NamesTheFault(t *testing.T) {
	for name, c := range map[string]struct{ rows, want string }{
		"overlap":        {"2026-03-01 00:00:10+00:00,0,0,2,10,0,0,0,0\n2026-03-01 00:00:12+00:00,0,0,2,5,0,0,0,0\n", ":3: segment overlaps another of asset 0"},
		"half an item":   {"2026-03-01 00:00:10+00:00,0,0.5,2,10,0,0,0,0\n", `:2: read items: "0.5" is no whole number`},
		"unknown status": {"2026-03-01 00:00:10+00:00,0,0,5,10,0,0,0,0\n", ":2: read status: status 5 is not in the map"},
		"no instant":     {"yesterday,0,0,2,10,0,0,0,0\n", `:2: read ts: "yesterday" is not written as`},
		"nothing":        {"2026-03-01 00:00:10+00:00,9,0,2,10,0,0,0,0\n", ": none of its rows is of an asset of maps/sme.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := open(t, c.rows)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// recording is the path of the real recording beside the project, or skips.
func recording(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	found, err := filepath.Glob(filepath.Join(dir, "..", "shared", "data", "sme_manufacturing", "*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "shared") {
			t.Fatal("the recording is not in ../shared/data/sme_manufacturing")
		}
		t.Skip("the recording is not in ../shared/data/sme_manufacturing")
	}
	return found[0]
}

// sums are what one machine did in one UTC day.
type sums struct {
	items, kj int64
	seconds   map[[2]int64]int64 // by PackML state and mode
}

type machineDay struct{ machine, day string }

// TestFeed_RealMachines compares what a listener sums up with the rows
// themselves.
func TestFeed_RealMachines(t *testing.T) {
	path := recording(t)
	f, err := Open(path, "maps/sme.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want, got := direct(t, path), listen(t, f)
	if len(want) != len(got) || len(want) < 27 {
		t.Fatalf("%d machine days, want %d", len(got), len(want))
	}
	for k, w := range want {
		g := got[k]
		if g == nil || g.items != w.items || g.kj != w.kj {
			t.Errorf("%v: got %+v, want %+v", k, g, w)
			continue
		}
		for as, s := range w.seconds {
			if g.seconds[as] != s {
				t.Errorf("%v: %d s in state and mode %v, want %d", k, g.seconds[as], as, s)
			}
		}
	}
}

func of(m map[machineDay]*sums, machine string, at time.Time) *sums {
	k := machineDay{machine, at.Format(time.DateOnly)}
	if m[k] == nil {
		m[k] = &sums{seconds: map[[2]int64]int64{}}
	}
	return m[k]
}

// direct computes from the file alone.
func direct(t *testing.T, path string) map[machineDay]*sums {
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
	number := func(s string) int64 {
		v, err := strconv.ParseInt(strings.TrimSuffix(s, ".0"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	as := map[string][2]int64{"1.0": {6, 3}, "2.0": {6, 1}, "3.0": {9, 1}}
	out := map[machineDay]*sums{}
	for _, r := range rows[1:] {
		end, err := time.Parse("2006-01-02 15:04:05-07:00", r[0])
		if err != nil {
			t.Fatal(err)
		}
		s := of(out, "sme.machine"+r[1], end.Add(-time.Duration(number(r[4]))*time.Second))
		s.items += number(r[2])
		s.kj += number(r[5]) * number(r[4])
		s.seconds[as[r[3]]] += number(r[4])
	}
	return out
}

// listen computes from emissions: counters by difference, states by how long
// they held, each segment counted to the day its state came in.
func listen(t *testing.T, f *Feed) map[machineDay]*sums {
	t.Helper()
	type machine struct {
		items, kj, state, mode int64
		since                  time.Time // zero: the state is not known
	}
	out, now := map[machineDay]*sums{}, map[string]*machine{}
	type instant struct {
		signal string
		at     time.Time
	}
	seen := map[instant]bool{}
	settle := func(name string, m *machine, at time.Time) {
		if !m.since.IsZero() {
			of(out, name, m.since).seconds[[2]int64{m.state, m.mode}] += int64(at.Sub(m.since) / time.Second)
		}
	}
	for _, e := range f.Until(f.End()) {
		if seen[instant{e.Signal, e.Time}] {
			t.Fatalf("two values of %s at %v", e.Signal, e.Time)
		}
		seen[instant{e.Signal, e.Time}] = true
		dot := strings.LastIndexByte(e.Signal, '.')
		name, role := e.Signal[:dot], e.Signal[dot+1:]
		m := now[name]
		if m == nil {
			m = &machine{}
			now[name] = m
		}
		switch role {
		case "produced":
			if e.Value.I > 0 {
				of(out, name, e.Time).items += e.Value.I - m.items
			}
			m.items = e.Value.I
		case "energy_kj":
			if e.Value.I > 0 {
				of(out, name, e.Time).kj += e.Value.I - m.kj
			}
			m.kj = e.Value.I
		case "state":
			settle(name, m, e.Time)
			m.state, m.since = e.Value.I, e.Time
			if e.Status == plant.BadNoData {
				m.since = time.Time{}
			}
		case "mode": // comes right after the state of the same instant
			m.mode = e.Value.I
		}
	}
	return out
}
