package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// cases is the table; see the package comment.
func cases() []torture {
	return []torture{
		{id: "heal", what: "agent and hub killed while nothing else runs", quick: 2, long: 5, alone: true, run: healing},
		{id: "R01", what: "kill -9 the agent, again and again", quick: 20, long: 200, run: r01},
		{id: "R02", what: "killed at every point of the hand-over", quick: 1, long: 20, run: r02},
		{id: "R02s", what: "killed where segments begin and go", quick: 1, long: 20, run: r02s},
		{id: "R02c", what: "killed while a configuration of the hub is written", quick: 1, long: 20, run: r02c},
		{id: "R03", what: "kill -9 the hub, again and again", quick: 5, long: 50, run: r03},
		{id: "R04", what: "kill -9 both together", quick: 3, long: 50, run: r04},
		{id: "R06", what: "power cut under the agent", quick: 3, long: 30, needs: []need{root, loop}, run: r06},
		{id: "R07", what: "power cut under the hub", quick: 3, long: 30, needs: []need{root, loop}, run: r07},
		{id: "R08", what: "power cut under a hub whose stream does not sync", quick: 1, long: 10, needs: []need{root, loop}, run: r08},
		{id: "R09", what: "power cut under both at once", quick: 0, long: 30, needs: []need{root, loop}, run: r09},
		{id: "R11", what: "an older copy of the hub's folder put back", quick: 1, long: 1, run: r11},
		{id: "R11o", what: "the same, and the agent has let go of what is lost", quick: 1, long: 10, run: r11old},
		{id: "R11n", what: "the same with a hub that knows nothing any more", quick: 1, long: 10, run: r11none},
		{id: "R12", what: "the stream deleted by an operator", quick: 2, long: 20, run: r12},
		{id: "R13", what: "the agent stands still", quick: 1, long: 10, run: r13},
		{id: "R14", what: "the hub stands still", quick: 1, long: 10, run: r14},
		{id: "R15", what: "one worker stands still", quick: 0, long: 1, run: r15},
		{id: "R17", what: "the agent asked to end while there is no hub", quick: 1, long: 5, run: r17},
		{id: "R19", what: "two agents on one folder, two with one identity", quick: 1, long: 1, run: r19},
		{id: "D01", what: "the agent's disk is full, and it begins anew on it", quick: 1, long: 10, needs: []need{root, loop}, run: d01},
		{id: "D02", what: "the agent's disk is full, and it drops the oldest", quick: 1, long: 10, needs: []need{root, loop}, run: d02},
		{id: "D04", what: "one write of the agent finds no space", quick: 2, long: 40, needs: []need{root, strace}, run: d04},
		{id: "D05", what: "fdatasync of the agent fails now and then", quick: 1, long: 30, needs: []need{root, strace}, run: d05},
		{id: "D08", what: "a bit of a record flipped in the buffer", quick: 1, long: 10, run: d08},
		{id: "D09", what: "garbage in a page of the buffer", quick: 1, long: 10, run: d09},
		{id: "D10", what: "garbage in the page that names a segment's newest root", quick: 1, long: 10, run: d10},
		{id: "D11", what: "garbage in both of them", quick: 1, long: 10, run: d11},
		{id: "D12", what: "a segment cut to 60 %", quick: 1, long: 10, run: d12},
		{id: "D13", what: "nothing left in the newest segment", quick: 1, long: 10, run: d13},
		{id: "D17", what: "the hub's disk is full", quick: 1, long: 10, needs: []need{root, loop}, run: d17},
		{id: "D18", what: "the hub's stream damaged while it is down", quick: 0, long: 10, run: d18},
		{id: "M01", what: "what the agent takes while its disk is full, and begun anew on it", quick: 1, long: 1, alone: true, needs: []need{root, loop}, run: m01},
		{id: "N01", what: "no link for an hour's worth of samples", quick: 1, long: 1, alone: true, run: n01},
		{id: "N02", what: "the agent's cable pulled, loose and slow: packets vanish", quick: 1, long: 10, needs: []need{root}, run: n02},
		{id: "N03", what: "a half-open link", quick: 1, long: 10, run: n03},
		{id: "N05", what: "answers held back", quick: 1, long: 1, run: n05},
		{id: "N06", what: "answers lost, connected again when all was due again", quick: 1, long: 10, run: n06},
		{id: "N08", what: "resets and turned bits", quick: 5, long: 100, run: n08},
		{id: "H07", what: "purged, restarted, and every message said again", quick: 1, long: 1, run: h07},
		{id: "H10", what: "the hub can't store while the stream fills", quick: 1, long: 1, run: h10},
		{id: "H11", what: "two hubs on one folder", quick: 0, long: 3, run: h11},
		{id: "T03", what: "stamps of other centuries, backwards, twice", quick: 1, long: 1, run: t03},
		{id: "T06", what: "a backlog of 72 h", quick: 1, long: 1, run: t06},
	}
}

// torture is one case.
type torture struct {
	id, what    string
	quick, long int    // rounds
	alone       bool   // it measures time: nothing runs beside it
	needs       []need // what it can't do without
	run         func(x *trial)
}

// trial is one run of a case.
type trial struct {
	*testing.T
	shared

	seed    uint64
	luck    *rand.Rand
	rounds  int
	full    bool // hours, not seconds
	sum     numbers
	heal    time.Duration // the longest
	gap     time.Duration // unknown in the end, of all sources
	notes   []string
	figures []figure
	wrong   []string
}

// What a case finds wrong stands once more below the table, where a log that is
// cut at its front still has it.

func (x *trial) Error(args ...any) {
	x.Helper()
	x.wrong = append(x.wrong, fmt.Sprint(args...))
	x.T.Error(args...)
}

func (x *trial) Errorf(format string, args ...any) {
	x.Helper()
	x.wrong = append(x.wrong, fmt.Sprintf(format, args...))
	x.T.Errorf(format, args...)
}

func (x *trial) Fatal(args ...any) {
	x.Helper()
	x.wrong = append(x.wrong, fmt.Sprint(args...))
	x.T.Fatal(args...)
}

func (x *trial) Fatalf(format string, args ...any) {
	x.Helper()
	x.wrong = append(x.wrong, fmt.Sprintf(format, args...))
	x.T.Fatalf(format, args...)
}

// healed notes how long something took to be well again.
func (x *trial) healed(took time.Duration) { x.heal = max(x.heal, took) }

// note adds a word to the table's line.
func (x *trial) note(format string, args ...any) {
	x.notes = append(x.notes, fmt.Sprintf(format, args...))
}

// between is a seeded time.
func (x *trial) between(least, most time.Duration) time.Duration {
	return least + time.Duration(x.luck.Int64N(int64(most-least)))
}

// shared is what all trials have in common.
type shared struct {
	ports  *atomic.Int32
	plain  func() (string, error) // folder of the programs
	faulty func() (string, error) // of those with failpoints
}

// firstPort is below what Linux gives to whoever asks for none.
const firstPort = 20_000

func (x *trial) programs(faulty bool) string {
	x.Helper()
	get := x.plain
	if faulty {
		get = x.faulty
	}
	dir, err := get()
	if err != nil {
		x.Fatal(err)
	}
	return dir
}

// build makes the programs in a folder, once.
func build(dir string, tags ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		cmd := exec.Command("go", append(append([]string{"build", "-trimpath"}, tags...), "-o", dir+"/", "plantmesh/cloud/cmd/plantmesh", "plantmesh/edge/cmd/plantmesh-edge")...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if said, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the programs: %w\n%s", err, said)
		}
		return dir, nil
	})
}

// need is what a machine must have for a case.
type need string

const (
	root   need = "root"
	loop   need = "loop devices"
	strace need = "strace"
)

// lacks says why a need is not met here; empty: it is.
func (n need) lacks() string {
	var tools []string
	switch n {
	case root:
		if os.Getuid() != 0 {
			return "only root may do this"
		}
		if runtime.GOOS != "linux" {
			return "only Linux has what breaks here"
		}
	case loop:
		if _, err := os.Stat("/dev/loop-control"); err != nil {
			return "this kernel has no loop devices"
		}
		tools = []string{"losetup", "mkfs.ext4", "mount", "umount"}
	case strace:
		tools = []string{"strace"}
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is not installed"
		}
	}
	return ""
}

func requires(word string) bool {
	return slices.Contains(strings.Split(os.Getenv("PLANTMESH_REQUIRE"), ","), word)
}

// line is a line of the table.
type line struct {
	id, state string
	x         *trial
	took      time.Duration
}

// TestTorture runs the table. PLANTMESH_TORTURE is quick or full.
func TestTorture(t *testing.T) {
	tier := os.Getenv("PLANTMESH_TORTURE")
	if tier == "" {
		t.Skip("skipped: make torture-quick runs it (PLANTMESH_TORTURE=quick)")
	}
	dir, err := os.MkdirTemp("", "pmt-bin-") //nolint:usetesting // it must outlive parallel subtests
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	plain := build(filepath.Join(dir, "plain"))
	if made := os.Getenv("PLANTMESH_BIN"); made != "" {
		plain = func() (string, error) { return made, nil }
	}
	s := shared{ports: &atomic.Int32{}, plain: plain, faulty: build(filepath.Join(dir, "faulty"), "-tags", "faultinject")}
	s.ports.Store(int32(firstPort + os.Getpid()%500*20))
	if _, err := s.plain(); err != nil {
		t.Fatal(err)
	}
	seeds := []uint64{number("PLANTMESH_SEED", 1)}
	for range number("PLANTMESH_SEEDS", 1) - 1 {
		seeds = append(seeds, seeds[len(seeds)-1]+1)
	}
	var mu sync.Mutex
	var lines []line
	began := time.Now()
	one := func(c torture, seed uint64) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if !c.alone {
				t.Parallel()
			}
			x := &trial{T: t, shared: s, seed: seed, luck: rand.New(rand.NewPCG(seed, 0)), rounds: c.quick, full: tier == "full"}
			if x.full {
				x.rounds = c.long
			}
			began := time.Now()
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				lines = append(lines, line{c.id, state(t), x, time.Since(began)})
			}()
			for _, n := range c.needs {
				if why := n.lacks(); why != "" {
					x.note("%s", why)
					if requires("root") {
						t.Fatalf("%s can't run here: %s", c.id, why)
					}
					t.Skipf("skipped: %s", why)
				}
			}
			c.run(x)
			if x.sum.bad() {
				x.Errorf("%s, seed %d: %s", c.id, seed, x.sum)
			}
		}
	}
	for _, seed := range seeds {
		// Those that measure time first, while nothing else runs.
		for _, alone := range []bool{true, false} {
			t.Run(map[bool]string{true: "alone", false: "together"}[alone], func(t *testing.T) {
				for _, c := range cases() {
					if c.alone == alone && (tier != "full" && c.quick > 0 || tier == "full" && c.long > 0) {
						t.Run(c.id, one(c, seed))
					}
				}
			})
		}
	}
	table(lines, time.Since(began))
}

func state(t *testing.T) string {
	t.Helper()
	switch {
	case t.Failed():
		return "FAIL"
	case t.Skipped():
		return "skip"
	}
	return "ok"
}

func number(name string, otherwise uint64) uint64 {
	n, err := strconv.ParseUint(os.Getenv(name), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

// table prints what came out.
func table(lines []line, took time.Duration) {
	slices.SortStableFunc(lines, func(a, b line) int { return strings.Compare(a.id, b.id) })
	var b strings.Builder
	fmt.Fprintf(&b, "%-6s %-4s %5s %5s %7s %9s %8s %6s %7s %5s %8s %6s  %s\n", "case", "", "lost", "dup", "phantom", "reordered", "unmarked", "gap_s", "heal_s", "seed", "samples", "took_s", "")
	failed := 0
	for _, l := range lines {
		n, heal := l.x.sum, "-"
		if l.x.heal > 0 {
			heal = fmt.Sprintf("%.2f", l.x.heal.Seconds())
		}
		fmt.Fprintf(&b, "%-6s %-4s %5d %5d %7d %9d %8d %6.1f %7s %5d %8d %6.1f  %s\n", l.id, l.state, n.lost, n.duplicated, n.phantom, n.reordered, n.unmarked,
			l.x.gap.Seconds(), heal, l.x.seed, n.emitted, l.took.Seconds(), strings.Join(l.x.notes, "; "))
		if l.state == "FAIL" {
			failed++
		}
	}
	for _, l := range lines {
		for _, f := range l.x.figures {
			fmt.Fprintf(&b, "%-6s %s\n", l.id, f)
		}
	}
	for _, l := range lines {
		for _, w := range l.x.wrong[:min(3, len(l.x.wrong))] {
			first, _, _ := strings.Cut(w, "\n")
			fmt.Fprintf(&b, "%-6s wrong: %s\n", l.id, first)
		}
	}
	fmt.Fprintf(&b, "torture: cases=%d failed=%d seconds=%.0f\n", len(lines), failed, took.Seconds())
	fmt.Fprint(os.Stdout, b.String())
}
