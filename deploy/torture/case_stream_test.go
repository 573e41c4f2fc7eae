package torture

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// d18 damages what lies in the hub's stream and nobody has read yet, while the
// hub is down: a bit flipped, or the end of the file cut off. The agents still
// have it, and give it again.
func d18(x *trial) {
	r := x.rig(options{})
	r.flow()
	lastSeq := regexp.MustCompile(`msg="reading the ingest stream".* last_seq=(\d+)`)
	last := uint64(0)
	for round := range x.rounds {
		unlock := lockDatabase(x, filepath.Join(r.hubData, "hub.db-shm"))
		_, before, _ := r.stream()
		r.await("unread messages lie in the stream", time.Minute, func() bool {
			_, end, messages := r.stream()
			last = end
			return end > before+30 && messages > 20
		})
		r.hub.kill()
		unlock()
		path := newestBlock(x, r.hubData)
		b, err := os.ReadFile(path)
		if err != nil {
			x.Fatal(err)
		}
		at := len(b) - 1 - x.luck.IntN(len(b)/4)
		if round%2 == 0 {
			b[at] ^= 1 << x.luck.IntN(8)
			err = os.WriteFile(path, b, 0o600)
		} else {
			err = os.Truncate(path, int64(at))
		}
		if err != nil {
			x.Fatal(err)
		}
		said := len(r.hub.said())
		r.hub.start()
		r.ready()
		r.mended(x)
		if m := lastSeq.FindStringSubmatch(r.hub.said()[said:]); m == nil || atoi(m[1]) >= last {
			x.Errorf("the stream ended at %d before and has lost nothing: %v", last, m)
		}
	}
	if !r.hub.up() {
		x.Errorf("the hub ended beside its damaged stream:\n%s", r.hub.tail(10))
	}
	r.settle()
}

func atoi(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// newestBlock is the file in which the ingest stream's newest messages lie.
func newestBlock(x *trial, hubData string) string {
	x.Helper()
	blocks, err := filepath.Glob(filepath.Join(hubData, "nats", "jetstream", "*", "streams", "INGEST", "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		x.Fatalf("the stream has no blocks: %v", err)
	}
	number := func(p string) int { return len(p) } // names are numbers without leading zeros
	slices.SortFunc(blocks, func(p, q string) int {
		if n := number(p) - number(q); n != 0 {
			return n
		}
		return strings.Compare(p, q)
	})
	return blocks[len(blocks)-1]
}

// stateCode is the exit code of a hub that can't have its data.
const stateCode = 6

// h11 starts a second hub on the data of the first: it is refused. Where somebody
// took the lock away it gets in, and the first one goes.
func h11(x *trial) {
	r := x.rig(options{})
	r.flow()
	for range x.rounds {
		second := r.rival("second")
		second.start()
		if code := second.wait(10 * time.Second); code != stateCode || !strings.Contains(second.said(), "in use by another hub") {
			x.Errorf("a second hub on one folder ended with %d and said:\n%s", code, second.tail(3))
		}
		r.flow()
		if err := os.Remove(filepath.Join(r.hubData, "lock")); err != nil {
			x.Fatal(err)
		}
		third := r.rival("third")
		third.start()
		if code := r.hub.wait(time.Minute); code != stateCode {
			x.Errorf("the first hub ended with %d when another opened its log:\n%s", code, r.hub.tail(5))
		}
		if said := r.hub.tail(1); !strings.Contains(said, "another hub has opened the database") || !strings.Contains(said, "see that one hub uses it") {
			x.Errorf("the first hub does not say why it ends: %s", said)
		}
		third.kill()
		r.hub.start()
		r.ready()
		r.mended(x)
	}
	r.settle()
}

// rival is another hub on the same data, at other addresses.
func (r *rig) rival(name string) *child {
	r.Helper()
	hub := strings.Replace(r.read("hub.yaml"), quoted(r.nats), quoted(r.address()), 1)
	hub = strings.Replace(hub, quoted(r.http), quoted(r.address()), 1)
	r.put(name+".yaml", hub)
	c := &child{t: r.T, name: name, path: r.hub.path, args: []string{"serve", "--config", r.path(name + ".yaml")}, dir: r.dir}
	r.Cleanup(c.kill)
	return c
}
