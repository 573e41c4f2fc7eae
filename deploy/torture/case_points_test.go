package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// point is a place in the code at which a process can be made to end.
type point struct {
	name string
	in   string // hub, agent or worker
	hit  int    // at which passing, more by dice
	text bool   // passed only when segments of the buffer fill
	set  bool   // passed only when the hub wants another configuration
}

// points are all of proto/fault's in the code: TestPoints looks.
func points() []point {
	return []point{
		{name: "source.received", in: "worker", hit: 3},
		{name: "source.decoded", in: "worker", hit: 3},
		{name: "source.told.before", in: "agent", hit: 3},
		{name: "source.ack.before", in: "worker", hit: 3},
		{name: "source.ack.after", in: "worker", hit: 3},
		{name: "buffer.txn.begin", in: "agent", hit: 3},
		{name: "buffer.put.partial", in: "agent", hit: 3},
		{name: "buffer.commit.before", in: "agent", hit: 3},
		{name: "buffer.commit.after", in: "agent", hit: 3},
		{name: "segment.create", in: "agent", hit: 1, text: true},
		{name: "segment.delete.before", in: "agent", hit: 1, text: true},
		{name: "segment.delete.after", in: "agent", hit: 1, text: true},
		{name: "forward.publish.before", in: "agent", hit: 2},
		{name: "forward.publish.after", in: "agent", hit: 2},
		{name: "receipt.taken", in: "agent", hit: 2},
		{name: "revision.stage.partial", in: "agent", hit: 1, set: true},
		{name: "revision.stage.before", in: "agent", hit: 1, set: true},
		{name: "revision.write.before", in: "agent", hit: 1, set: true},
		{name: "revision.state.after", in: "agent", hit: 1, set: true},
		{name: "hub.fetched", in: "hub", hit: 2},
		{name: "hub.t1.before", in: "hub", hit: 2},
		{name: "hub.t1.partial", in: "hub", hit: 2},
		{name: "hub.t1.after", in: "hub", hit: 2},
		{name: "hub.t2.before", in: "hub", hit: 2},
		{name: "hub.t2.after", in: "hub", hit: 2},
		{name: "hub.port.before", in: "hub", hit: 1},
		{name: "hub.port.after", in: "hub", hit: 1},
	}
}

// TestPoints holds the table against the code: a point that nobody kills at is
// not tested.
func TestPoints(t *testing.T) {
	found := map[string]bool{}
	call := regexp.MustCompile(`fault\.(?:Point|Err)\("([^"]+)"\)`)
	for _, side := range []string{"edge", "cloud", "firmware-sim"} {
		err := filepath.WalkDir(filepath.Join("..", "..", side), func(path string, _ os.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" {
				return err
			}
			b, err := os.ReadFile(path)
			for _, m := range call.FindAllSubmatch(b, -1) {
				found[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range points() {
		if !found[p.name] {
			t.Errorf("the code has no point %s", p.name)
		}
		delete(found, p.name)
	}
	for name := range found {
		t.Errorf("the table has no point %s", name)
	}
}

// r02 kills at every point but those of segments and configurations.
func r02(x *trial) {
	x.killAt(x.rig(options{faulty: true}), func(p point) bool { return !p.text && !p.set })
}

// r02s kills where a segment of the buffer begins and where one goes: it needs
// text nobody can make small, and a small buffer.
func r02s(x *trial) {
	x.killAt(x.rig(options{faulty: true, sources: x.bulky(), buffer: shortMemory}), func(p point) bool { return p.text })
}

// shortMemory is a buffer that lets go what was received at once, a mebibyte at
// a time.
const shortMemory = "max_bytes: 8MiB, segment_bytes: 1MiB, keep: 0s"

// bulky are sources of which one says text that nobody can make small, a
// mebibyte in about a second.
func (x *trial) bulky() []sourceSpec {
	letters := rand.New(rand.NewPCG(x.seed, 1))
	specs := defaultSources()
	specs[0].signals, specs[0].every = 40, 100*time.Millisecond
	specs[0].text = func() string {
		b := make([]byte, 2048)
		for i := range b {
			b[i] = byte('A' + letters.IntN(26))
		}
		return string(b)
	}
	return specs
}

// killAt goes through the points, each as often as there are rounds.
func (x *trial) killAt(r *rig, which func(point) bool) {
	x.Helper()
	r.flow()
	killed := 0
	for range x.rounds {
		for _, p := range points() {
			if which(p) {
				p.hit += x.luck.IntN(4)
				if p.text || strings.HasPrefix(p.name, "hub.port") {
					p.hit = 1
				}
				r.killedAt(p)
				killed++
			}
		}
	}
	r.mended(x)
	x.note("%d kills at %d points", killed, len(slices.DeleteFunc(points(), func(p point) bool { return !which(p) })))
	r.settle()
}

func (r *rig) killedAt(p point) {
	r.Helper()
	c := r.edge
	if p.in == "hub" {
		c = r.hub
	}
	said := fmt.Sprintf("fault: %s: exit137", p.name)
	was := strings.Count(c.said(), said)
	c.kill()
	c.env = []string{fmt.Sprintf("PLANTMESH_FAULT=%s:exit137:hit=%d", p.name, p.hit)}
	c.start()
	r.await("a process ends at "+p.name, 60*time.Second, func() bool { return strings.Count(c.said(), said) > was })
	c.env = nil
	if p.in == "worker" { // those die again and again until the agent begins without the fault
		c.kill()
	} else if code := c.wait(10 * time.Second); code != 137 {
		r.Errorf("at %s the %s ended with %d, want 137", p.name, c.name, code)
	}
	c.start()
	if p.in == "hub" {
		r.ready()
	}
}
