package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"plantmesh/proto/mesh"
)

// dead is a worker that is gone at once, of what it says.
func dead(why string) *memory {
	m := worker(readerFunc(func(context.Context, []byte, Log) error { return nil }))
	m.killed()
	<-m.done
	m.done <- errors.New(why)
	return m
}

// round runs a supervisor on workers by number of life, for so long, and says when
// they started.
func round(t *testing.T, d *disk, long time.Duration, life func(n int) *memory) (s *Supervisor, starts []time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	spawn := func(context.Context) (Process, error) {
		starts = append(starts, time.Since(began))
		return life(len(starts)), nil
	}
	s = NewSupervisor(Config{ID: "s1"}, spawn, d, func() mesh.Nanos { return mesh.Nanos(1000 + time.Since(began)/time.Second) }, quiet())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	<-time.After(long)
	synctest.Wait()
	last := s.Status()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	s.mu.Lock()
	s.status = last
	s.mu.Unlock()
	return s, starts
}

// TestSupervisor_SetsAside what kills its worker each time: no storm of restarts,
// and the reason in status and log.
func TestSupervisor_SetsAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		s, starts := round(t, d, 25*time.Minute, func(n int) *memory {
			if n == 1 {
				return worker(counter(2, func(context.Context) error { return errors.New("the cable is out") }))
			}
			return dead(fmt.Sprintf("panic: index out of range [%d] with length %d at 0xc000%d", n, 2*n, n))
		})
		aside := 33 * time.Second // it was quarantined before: five ends of any kind
		want := []time.Duration{0, 200 * time.Millisecond, 600 * time.Millisecond, 1400 * time.Millisecond, 3 * time.Second, aside, aside + 10*time.Minute, aside + 20*time.Minute}
		if !slices.Equal(starts, want) {
			t.Errorf("starts at %v, want %v", starts, want)
		}
		st := s.Status()
		if st.State != StateAside || !strings.Contains(st.LastError, "7 times in a row of the same cause, and nothing came through: the worker is gone: panic: index out of range [8]") || !strings.Contains(st.LastError, "every 10m0s") {
			t.Errorf("status %+v", st)
		}
		if v := st.Voids[mesh.CauseDied]; !strings.Contains(v.Latest, "set aside: its worker died 6 times") {
			t.Errorf("voids %+v", st.Voids)
		}
		if told := d.told(); !strings.Contains(told, "void died [120,1000)") || !strings.Contains(told, "void died [1033,1633)") || !strings.HasSuffix(told, "void died [1633,2233)") {
			t.Errorf("the log: %s", told)
		}
	})
}

// TestSupervisor_AsideComesBack: a device that sends something else is read again.
func TestSupervisor_AsideComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		s, starts := round(t, d, 11*time.Minute, func(n int) *memory {
			if n < 6 {
				return dead("signal: killed")
			}
			return worker(counter(1, hang))
		})
		if st := s.Status(); st.State != StateRunning || st.Samples != 1 || len(starts) != 6 {
			t.Errorf("starts %v, status %+v", starts, st)
		}
	})
}

// TestSupervisor_NotAside: where something comes through, or the causes are others,
// or the reader says itself what is wrong, trying goes on.
func TestSupervisor_NotAside(t *testing.T) {
	for name, life := range map[string]func(n int) *memory{
		"samples came": func(int) *memory {
			return worker(counter(1, func(context.Context) error { panic("again") }))
		},
		"other causes": func(n int) *memory { return dead([]string{"panic: a", "signal: killed"}[n%2]) },
		"an error in text": func(int) *memory {
			return worker(counter(0, func(context.Context) error { return errors.New("no such file") }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, starts := round(t, newDisk(t), 10*time.Minute, life)
				if st := s.Status(); st.State != StateQuarantined || len(starts) < 20 {
					t.Errorf("%d starts, status %+v", len(starts), st)
				}
			})
		})
	}
}

// TestSupervisor_PanicOfTheReader is a death, named by where it was.
func TestSupervisor_PanicOfTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, starts := round(t, newDisk(t), 9*time.Minute, func(n int) *memory {
			return worker(counter(0, func(context.Context) error { return explode(make([]byte, n)) }))
		})
		st := s.Status()
		if st.State != StateAside || len(starts) != deathLimit || !strings.Contains(st.LastError, "the reader panicked: runtime error: index out of range [5] with length 5 in plantmesh/edge/source.explode") {
			t.Errorf("%d starts, status %+v", len(starts), st)
		}
	})
}

//go:noinline
func explode(b []byte) error {
	beyond := len(b)
	return errors.New(string(b[beyond]))
}

// bombs are workers that die, each of its own.
func bombs() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"memory": func(context.Context) error {
			var all [][]byte
			for {
				b := make([]byte, 1<<20)
				for i := range b {
					b[i] = 1
				}
				all = append(all, b)
				if len(all) > 8<<10 {
					return errors.New("8 GiB were taken")
				}
			}
		},
		"stack":     func(context.Context) error { return deep(0) },
		"goroutine": func(ctx context.Context) error { go func() { _ = explode(nil) }(); return hang(ctx) },
	}
}

//go:noinline
func deep(n int) error {
	if n < 0 {
		return nil
	}
	return errors.Join(deep(n+1), errors.New("back"))
}

// TestExec_Bombs runs real workers that take memory and stack without end, or panic
// where nobody recovers: they die alone, soon and small, and it is said of what.
func TestExec_Bombs(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: only Linux bounds a worker's memory")
	}
	if testing.Short() {
		t.Skip("skipped: a build with the race detector has no bound; it runs without -short")
	}
	for name, want := range map[string][]string{
		"memory":    {"fatal error: ", "memory", "in plantmesh/edge/source."},
		"stack":     {"fatal error: stack overflow", "in plantmesh/edge/source.deep"},
		"goroutine": {"panic: runtime error: index out of range [0] with length 0", "in plantmesh/edge/source.explode"},
	} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			p, err := Exec(os.Args[0], nil, []string{asWorker + "=1"}, &said)
			if err != nil {
				t.Fatal(err)
			}
			spawn := func(context.Context) (Process, error) { return p, nil }
			s := NewSupervisor(Config{ID: "s1", Worker: []byte(name)}, spawn, newDisk(t), func() mesh.Nanos { return 1000 }, quiet())
			err = s.once(t.Context())
			if strings.Contains(said.String(), notConfined) {
				t.Skip("skipped: this build's workers have no bound: " + said.String())
			}
			if _, died := errors.AsType[*DeathError](err); !died {
				t.Fatalf("%v", err)
			}
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v lacks %q", err, w)
				}
			}
			c, ok := p.(*child)
			if !ok {
				t.Fatal("no child")
			}
			kib := most(c.cmd.ProcessState)
			t.Logf("%d MiB at most: %v", kib>>10, err)
			if kib == 0 || kib > 256<<10 {
				t.Errorf("it had %d KiB", kib)
			}
			if said.Len() > maxDump+1<<10 {
				t.Errorf("%d bytes of its dump were passed on", said.Len())
			}
		})
	}
}

// TestLastWords: however the bytes come.
func TestLastWords(t *testing.T) {
	dump := "time=now level=INFO\npanic: boom\n\ngoroutine 7 [running]:\npanic({0x1, 0x2})\n\t/go/panic.go:1\nreflect.Value.Set(0x3)\n\t/go/r.go:2\ngithub.com/x/y.(*T).Decode(0x1, {0x2})\n\t/y.go:3\nmain.main()\n" + strings.Repeat("x", 20_000)
	for _, step := range []int{1, 7, len(dump)} {
		var to bytes.Buffer
		l := &lastWords{to: &to}
		for b := range slices.Chunk([]byte(dump), step) {
			if n, err := l.Write(b); n != len(b) || err != nil {
				t.Fatal(n, err)
			}
		}
		if got := l.said(); got != "panic: boom in github.com/x/y.(*T).Decode" {
			t.Errorf("step %d: %q", step, got)
		}
		if to.Len() > maxDump+200 || !strings.HasPrefix(to.String(), "time=now") {
			t.Errorf("step %d: %d bytes passed on", step, to.Len())
		}
	}
	l := &lastWords{to: &bytes.Buffer{}}
	if _, err := l.Write([]byte("level=INFO msg=well\n")); err != nil || l.said() != "" {
		t.Errorf("%q, %v", l.said(), err)
	}
}
