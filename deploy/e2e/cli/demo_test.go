package cli

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// historyWithin is generous: these tests share the machine with others.
	historyWithin = 3 * time.Minute
	// goneWithin is how long a Ctrl-C may take to leave nothing.
	goneWithin = 15 * time.Second
)

// aDemo is a running demo, and what it would leave behind.
type aDemo struct {
	*process

	tmp    string // where its temporary folder goes
	marker string // a variable that all its processes inherit
}

// demo starts one in a folder of its own with a space in its path.
func demo(t *testing.T, args ...string) *aDemo {
	t.Helper()
	if _, err := os.Stat("/proc/self/environ"); err != nil {
		t.Skip("no /proc here to look for left processes")
	}
	dir := folder(t)
	d := &aDemo{tmp: filepath.Join(dir, "t m p"), marker: fmt.Sprintf("PLANTMESH_E2E=%d-%s", os.Getpid(), filepath.Base(dir))}
	cwd := filepath.Join(dir, "some where")
	for _, f := range []string{d.tmp, cwd} {
		if err := os.Mkdir(f, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"TMPDIR=" + d.tmp, d.marker, "PLANTMESH_HUB_DATA=/nowhere"} // a demo reads its own files alone
	d.process = begin(t, cwd, env, "plantmesh", append([]string{"demo", "--listen", "127.0.0.1:0"}, args...)...)
	return d
}

// alive are the processes of the demo, itself included.
func (d *aDemo) alive() (out []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains("\x00"+string(b), "\x00"+d.marker+"\x00") {
			name, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
			out = append(out, filepath.Base(filepath.Dir(f))+" "+strings.ReplaceAll(string(name), "\x00", " "))
		}
	}
	return out
}

// left are the files in its temporary folder.
func (d *aDemo) left() []string {
	d.t.Helper()
	entries, err := os.ReadDir(d.tmp)
	if err != nil {
		d.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// interrupted sends a Ctrl-C and looks at what stays.
func (d *aDemo) interrupted(when string) {
	d.t.Helper()
	d.signal(interrupt)
	if code := d.ends(goneWithin); code != 0 {
		d.t.Errorf("interrupted %s: exit code %d", when, code)
	}
	if p := d.alive(); len(p) > 0 {
		d.t.Errorf("interrupted %s: left running: %q", when, p)
	}
	if f := d.left(); len(f) > 0 {
		d.t.Errorf("interrupted %s: left on disk: %q", when, f)
	}
}

// moment waits for a seeded while, at most so long.
func moment(t *testing.T, rnd *rand.Rand, most time.Duration) string {
	t.Helper()
	d := time.Duration(rnd.Int64N(int64(most)))
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
	return fmt.Sprintf("%s later", d.Round(time.Millisecond))
}

// seeded prints its seed; PLANTMESH_SEED repeats it.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PLANTMESH_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("PLANTMESH_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestDemo_TwoAtOnceAndCtrlCAtAnyMoment(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	one := demo(t, "--for", "5m", "--speed", "60", "--history", "24h", "--seed", "1")
	two := demo(t, "--for", "5m", "--speed", "60", "--history", "24h", "--seed", "2")
	address := one.says(one.err, "page    http://", time.Minute)
	if other := two.says(two.err, "page    http://", time.Minute); other == address {
		t.Fatalf("two demos at %s", address)
	}
	two.interrupted("in its history, " + moment(t, rnd, 3*time.Second))
	one.says(one.out, "first OEE", historyWithin)
	_, url, _ := strings.Cut(address, "page    ")
	page, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(page.Body)
	page.Body.Close()
	if err != nil || page.StatusCode != http.StatusOK || !strings.Contains(string(body), "<html") {
		t.Errorf("the page: %s: %.100s", page.Status, body)
	}
	one.interrupted("live, " + moment(t, rnd, 3*time.Second))
}

func TestDemo_CtrlCWhileItStarts(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	for range 3 {
		d := demo(t)
		until(t, 20*time.Second, "the demo has its folder", func() bool { return len(d.left()) > 0 })
		d.interrupted("at its start, " + moment(t, rnd, 800*time.Millisecond))
	}
}

func TestDemo_KilledLeavesNoProcess(t *testing.T) {
	t.Parallel()
	d := demo(t)
	// The demo, the hub, the plant, the agent, and a worker per source.
	until(t, time.Minute, "everything runs", func() bool { return len(d.alive()) >= 8 })
	d.signal(syscall.SIGKILL)
	d.ends(goneWithin)
	until(t, goneWithin, "no process of it is left", func() bool { return len(d.alive()) == 0 })
}

func TestDemo_SaysWhoWasKilled(t *testing.T) {
	t.Parallel()
	d := demo(t)
	hub := ""
	until(t, time.Minute, "the hub runs beside everything", func() bool {
		all := d.alive()
		for _, p := range all {
			if strings.Contains(p, " serve --config ") {
				hub, _, _ = strings.Cut(p, " ")
			}
		}
		return len(all) >= 8 && hub != ""
	})
	pid, err := strconv.Atoi(hub)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := d.ends(time.Minute); code != 1 {
		t.Errorf("exit code %d", code)
	}
	last := d.err.with("plantmesh: ")
	for _, want := range []string{"the hub ended by itself: signal: killed", "its log: " + d.tmp, "hub.log", "[internal]"} {
		if !strings.Contains(last, want) {
			t.Errorf("%q does not say %q", last, want)
		}
	}
	if strings.Contains(last, "level=") {
		t.Errorf("%q tells what is no error", last)
	}
	if p := d.alive(); len(p) > 0 {
		t.Errorf("left running: %q", p)
	}
}

// verdict is the last line of a demo with --assert.
var verdict = regexp.MustCompile(`^demo: products=5 rows=(\d+) mismatched=0 lost=0 duplicated=0 unmarked=0 gap_seconds=(\d+) allowed=(\d+)$`)

// asserting starts a demo that looks at itself in the end.
func asserting(t *testing.T, args ...string) *aDemo {
	t.Helper()
	return demo(t, append([]string{"--speed", "60", "--assert"}, args...)...)
}

// holds lets it come to its end and checks its last line.
func (d *aDemo) holds(within time.Duration) {
	d.t.Helper()
	code := d.ends(within)
	last := d.out.with("demo: ")
	d.t.Log(last)
	var rows, gaps, allowed int
	if m := verdict.FindStringSubmatch(last); m != nil {
		fmt.Sscan(strings.Join(m[1:], " "), &rows, &gaps, &allowed)
	}
	if code != 0 || rows < 100_000 || gaps > allowed {
		d.t.Errorf("exit code %d, last line %q", code, last)
	}
	if p, f := d.alive(), d.left(); len(p)+len(f) > 0 {
		d.t.Errorf("left running: %q; left on disk: %q", p, f)
	}
}

func TestDemo_AllKills(t *testing.T) {
	d := asserting(t, "--for", "20m", "--history", "24h", "--fault", "kill-agent,kill-worker,kill-hub,restore-hub")
	t.Parallel() // it takes longest, and runs beside all others
	d.holds(5 * time.Minute)
}

// TestDemo_Bars is the whole matrix, 21 runs of two plant hours each. It takes
// more than an hour, so somebody must ask for it.
func TestDemo_Bars(t *testing.T) {
	if os.Getenv("PLANTMESH_DEMO") != "full" {
		t.Skip("takes more than an hour: make demo-bars, or PLANTMESH_DEMO=full")
	}
	for _, faults := range []string{"", "kill-agent", "kill-worker", "kill-hub", "restore-hub", "kill-agent,kill-worker,kill-hub", "outage"} {
		for seed := 1; seed <= 3; seed++ {
			t.Run(fmt.Sprintf("seed %d %s", seed, faults), func(t *testing.T) {
				args := []string{"--for", "2h", "--seed", strconv.Itoa(seed)}
				if faults != "" {
					args = append(args, "--fault", faults)
				}
				asserting(t, args...).holds(15 * time.Minute)
			})
		}
	}
}
