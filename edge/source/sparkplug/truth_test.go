package sparkplug

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// perMetric tells whose a value is: the metric's number times this, and what it counts.
const perMetric = 1_000_000

// actor is a node that does as it likes. Its aliases are others in each of its
// connections, and each value says whose it is.
type actor struct {
	d       *device
	aliases []int // of its metrics
	next    int64
	sent    map[string][]mesh.Nanos // when it sent a value of a metric
	past    []memory
	answer  int // steps until it answers a request; 0: there is none
}

// memory is a value that a node keeps.
type memory struct {
	metric int
	at     mesh.Nanos
	value  int64
}

// stage plays nodes, a network and a broker against a host.
type stage struct {
	k        *kit
	rng      *rand.Rand
	actors   []*actor
	cut      int                 // steps until our connection is back; 0: it stands
	delayed  map[*actor][]func() // messages that were overtaken
	immortal bool                // we never die: then nothing that came may be lost
	keepers  bool                // nodes keep what is not heard, and say it after each birth
	came     map[int64]string    // values that came, and whose they are
}

const metricsEach = 4

func (a *actor) metric(i int, at mesh.Nanos) payload.Metric {
	a.next += 3 // no two actors send the same
	name := fmt.Sprint("m", i)
	full := "plant." + a.d.name + "." + name
	a.sent[full] = append(a.sent[full], at)
	a.past = append(a.past, memory{i, at, int64(i)*perMetric + a.next})
	return aliased(uint64(a.aliases[i]), long(name, int64(i)*perMetric+a.next))
}

func (s *stage) chance(percent float64) bool { return s.rng.Float64()*100 < percent }

// deliver takes a message to the host, or not: late, or never.
func (s *stage) deliver(a *actor, sure bool, send func()) {
	switch {
	case s.cut > 0:
	case sure:
		send()
	case s.chance(3):
	case s.chance(5):
		s.delayed[a] = append(s.delayed[a], send)
	default:
		send()
	}
}

// birth begins the sequence where none of the connection before was for long: that a
// number is the next one by chance, one in 256 is, and is not played here.
func (s *stage) birth(a *actor, sure bool) {
	a.d.seq = (a.d.seq + 100) % 256
	var all []payload.Metric
	for i := range metricsEach {
		all = append(all, a.metric(i, s.k.now.plant))
	}
	p := payload.Payload{Timestamp: s.k.ms(), Seq: a.d.seq, HasSeq: true, Metrics: append(all, long("bdSeq", int64(a.d.bd)))}
	s.deliver(a, sure, func() {
		s.note(a, p)
		s.k.say("plant/NBIRTH/"+a.d.name, p)
	})
	if s.keepers {
		s.remember(a, sure)
	}
}

// anew is a node that lost its connection and came back: with other aliases.
func (s *stage) anew(a *actor) {
	was := a.d.bd
	s.delayed[a] = nil // a broker keeps the order of a connection, and so that of two of them
	a.d.bd++
	s.rng.Shuffle(len(a.aliases), func(i, j int) { a.aliases[i], a.aliases[j] = a.aliases[j], a.aliases[i] })
	death := func() {
		if s.cut == 0 {
			a.d.dies(was)
		}
	}
	if s.chance(70) {
		death()
		s.birth(a, false)
		return
	}
	s.birth(a, true) // the death comes after it: that the birth is lost too nobody could find out
	death()
}

// remember has a node say what it kept: all that a host may have missed and wait for.
func (s *stage) remember(a *actor, sure bool) {
	var all []payload.Metric
	for _, x := range a.past {
		if x.at < s.k.now.plant.Add(-collectFor) {
			continue
		}
		m := alone(aliased(uint64(a.aliases[x.metric]), long("", x.value)))
		m.Historical, m.Timestamp = true, uint64(x.at/1e6)
		all = append(all, m)
	}
	for len(all) > 0 {
		n := min(20, len(all))
		p := a.d.message(all[:n]...)
		all = all[n:]
		s.deliver(a, sure, func() { s.k.say("plant/NDATA/"+a.d.name, p) })
	}
}

func (s *stage) speak(a *actor) {
	m := a.metric(s.rng.IntN(metricsEach), s.k.now.plant)
	p := a.d.message(alone(m))
	s.deliver(a, false, func() {
		s.note(a, p)
		s.k.say("plant/NDATA/"+a.d.name, p)
	})
}

// note takes down what comes.
func (s *stage) note(a *actor, p payload.Payload) {
	for _, m := range p.Metrics {
		if v := int64(m.Value.Bits); string(m.Name) != "bdSeq" {
			s.came[v] = fmt.Sprint("plant.", a.d.name, ".m", v/perMetric)
		}
	}
}

func (s *stage) step() {
	k := s.k
	k.pass(50 * time.Millisecond)
	for _, c := range k.sent {
		for _, a := range s.actors {
			if c.topic == "spBv1.0/plant/NCMD/"+a.d.name && a.answer == 0 && s.chance(90) {
				a.answer = 1 + s.rng.IntN(20)
			}
		}
	}
	k.sent = nil
	for _, a := range s.actors {
		for len(s.delayed[a]) > 0 && s.chance(50) {
			late := s.delayed[a][0]
			s.delayed[a] = s.delayed[a][1:]
			if s.cut == 0 {
				late()
			}
		}
		if a.answer > 0 {
			if a.answer--; a.answer == 0 {
				s.birth(a, false)
				continue
			}
		}
		switch {
		case s.chance(0.3):
			s.anew(a)
		case s.chance(20):
			s.speak(a)
		}
	}
	s.fate()
}

// fate is what happens to us.
func (s *stage) fate() {
	k := s.k
	switch {
	case s.cut > 0:
		if s.cut--; s.cut == 0 {
			k.connect()
		}
	case s.chance(0.3):
		k.h.disconnected(k.now)
		clear(s.delayed)
		s.cut = 1 + s.rng.IntN(100)
	case !s.immortal && s.chance(0.2):
		clear(s.delayed)
		k.restart(time.Duration(s.rng.IntN(3000)) * time.Millisecond)
	case s.chance(5):
		k.seal()
	}
}

// Whatever is lost, late, cut off or begun anew: no value stands under another metric's
// name, and between two values of a signal that are said to follow one another there
// was no other one.
func TestTruth(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			s := &stage{keepers: seed%3 == 1, k: newKit(t, func(c *Config) {
				if seed%3 == 1 {
					c.StoreAndForward = []string{"plant/*"}
				}
			}), rng: rand.New(rand.NewPCG(seed, 7)), delayed: map[*actor][]func(){}, came: map[int64]string{}, immortal: seed%3 == 0}
			for i := range 3 {
				a := &actor{d: s.k.node(fmt.Sprint("n", i)), next: int64(i), sent: map[string][]mesh.Nanos{}}
				for m := range metricsEach {
					a.aliases = append(a.aliases, m+1)
				}
				s.actors = append(s.actors, a)
				s.birth(a, true)
			}
			for range 3000 { // two minutes and a half
				s.step()
			}
			if s.cut > 0 {
				s.k.connect()
			}
			s.cut = 0
			for _, a := range s.actors {
				s.birth(a, true)
				s.k.pass(time.Second)
				p := a.d.message(alone(a.metric(0, s.k.now.plant)))
				s.k.say("plant/NDATA/"+a.d.name, p)
			}
			s.k.pass(time.Minute)
			s.k.seal()
			s.judge(t)
		})
	}
}

func (s *stage) judge(t *testing.T) {
	t.Helper()
	values, darks := 0, 0
	for _, a := range s.actors {
		for name, sent := range a.sent {
			var before reading
			for _, r := range s.k.of(name) {
				if r.Value.Type == mesh.TypeNone {
					before = reading{}
					darks++
					continue
				}
				values++
				if v, ok := r.Value.Int(); !ok || fmt.Sprint("plant.", a.d.name, ".m", v/perMetric) != name {
					t.Errorf("a value of another metric: %s", r)
				}
				if before.Time != 0 {
					from, _ := slices.BinarySearch(sent, before.Time+1)
					to, _ := slices.BinarySearch(sent, r.Time)
					if to > from {
						t.Errorf("%s is said to hold until %s, and %d values between were lost", before, r, to-from)
					}
				}
				before = r
			}
		}
	}
	if s.immortal {
		s.account(t)
	}
	if values < 500 || darks == 0 && !s.keepers {
		t.Errorf("%d values and %d losses were judged: the test is too tame", values, darks)
	}
}

// account checks that all that came is there once, or is counted where it was refused.
func (s *stage) account(t *testing.T) {
	t.Helper()
	seen := map[string]int{}
	for _, r := range s.k.samples {
		if v, ok := r.Value.Int(); ok {
			seen[fmt.Sprint(r.name, v)]++
		}
	}
	missing, refused := 0, 0
	for v, name := range s.came {
		switch seen[fmt.Sprint(name, v)] {
		case 1:
		case 0:
			missing++
		default:
			t.Errorf("the value %d of %s is there %d times", v, name, seen[fmt.Sprint(name, v)])
		}
	}
	for _, v := range s.k.voids {
		for _, p := range v.Parts {
			if v.Cause == mesh.CauseUnreadable {
				refused += int(p.Count)
			}
		}
	}
	if missing > refused {
		t.Errorf("%d values came and are not there, and only %d are said to be refused", missing, refused)
	}
}
