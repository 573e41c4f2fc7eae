package torture

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// figure is something measured beside its bar, as `make bench` prints them.
type figure struct {
	name  string
	value float64
	unit  string
	bar   float64
	more  bool // the value must be at least the bar, else at most
	// clock marks a time: in the quick tier, which runs on any machine however
	// busy, it may be off twofold.
	clock bool
}

// String is: name, value, unit, bar, and the ratio of the value to it.
func (f figure) String() string {
	sign := "<="
	if f.more {
		sign = ">="
	}
	return fmt.Sprintf("%-20s %10.4g %-8s %s %-6g %.2f", f.name, f.value, f.unit, sign, f.bar, f.value/f.bar)
}

func (f figure) met(full bool) bool {
	slack := 1.0
	if f.clock && !full {
		slack = 2
	}
	if f.more {
		return f.value >= f.bar/slack
	}
	return f.value <= f.bar*slack
}

// figure puts one into the result; one that misses its bar fails the case.
func (x *trial) figure(f figure) {
	x.Helper()
	x.figures = append(x.figures, f)
	if !f.met(x.full) {
		x.Errorf("bar missed: %s", f)
	}
}

// TestFigure_Met: the quick tier forgives clocks twofold and nothing else.
func TestFigure_Met(t *testing.T) {
	for _, c := range []struct {
		f           figure
		quick, full bool
	}{
		{figure{value: 10, bar: 10}, true, true},
		{figure{value: 10.1, bar: 10}, false, false},
		{figure{value: 9.9, bar: 10, more: true}, false, false},
		{figure{value: 20, bar: 10, clock: true}, true, false},
		{figure{value: 20.1, bar: 10, clock: true}, false, false},
		{figure{value: 5, bar: 10, more: true, clock: true}, true, false},
		{figure{value: 4.9, bar: 10, more: true, clock: true}, false, false},
	} {
		if quick, full := c.f.met(false), c.f.met(true); quick != c.quick || full != c.full {
			t.Errorf("%s: quick %v, full %v", c.f, quick, full)
		}
	}
}

// share is the value below which so many of a hundred lie; 0 of none.
func share(all []time.Duration, percent int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)-1, len(all)*percent/100)]
}

// pssBar is what the agent and its workers may take together.
const pssBar = 128 // MiB

// memory is what processes take of the machine: their own pages, and of those
// they share their part (proc_pid_smaps_rollup(5)); the anonymous ones are
// heap and stacks, the others pages of files that are mapped.
type memory struct{ pss, anon int64 } // bytes

// memoryOf is that of a process; zero where it has ended.
func memoryOf(pid int) (m memory) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return m
	}
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) < 3 {
			continue
		}
		n, err := strconv.ParseInt(string(f[1]), 10, 64)
		if err != nil {
			continue
		}
		switch string(f[0]) {
		case "Pss:":
			m.pss = n << 10
		case "Pss_Anon:":
			m.anon = n << 10
		}
	}
	return m
}

// meter watches what the agent and its workers take.
type meter struct {
	r    *rig
	stop func()

	mu     sync.Mutex // protects the fields below
	worst  memory     // since the last reading, of all processes together
	agent  int64      // of it the agent's own, without its workers
	looked int
}

// meter begins to look, five times a second, until the trial ends.
func (r *rig) meter() *meter {
	r.Helper()
	if memoryOf(os.Getpid()).pss == 0 {
		r.note("this system does not say what a process takes")
		return &meter{r: r, stop: func() {}}
	}
	m, done := &meter{r: r}, make(chan struct{})
	var wg sync.WaitGroup
	m.stop = sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
	wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				m.look()
			}
		}
	})
	r.Cleanup(m.stop)
	return m
}

func (m *meter) look() {
	if !m.r.edge.up() {
		return
	}
	pid := m.r.edge.pid()
	agent := memoryOf(pid)
	all := agent
	for _, worker := range childrenOf(pid) {
		w := memoryOf(worker)
		all.pss += w.pss
		all.anon += w.anon
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.looked++; all.pss > m.worst.pss {
		m.worst, m.agent = all, agent.pss
	}
}

// read puts the most that was taken since the last reading into the result.
func (m *meter) read(name string) {
	m.r.Helper()
	m.mu.Lock()
	worst, agent, looked := m.worst, m.agent, m.looked
	m.worst, m.agent, m.looked = memory{}, 0, 0
	m.mu.Unlock()
	if looked == 0 {
		return
	}
	const mib = 1 << 20
	m.r.figure(figure{name: name, value: float64(worst.pss) / mib, unit: "MiB", bar: pssBar})
	m.r.Logf("%s: %.1f MiB in %d looks, of it the agent itself %.1f, anonymous %.1f, files %.1f", name, float64(worst.pss)/mib, looked,
		float64(agent)/mib, float64(worst.anon)/mib, float64(worst.pss-worst.anon)/mib)
}
