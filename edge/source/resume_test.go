package source

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"plantmesh/proto/mesh"
)

// opening runs Work for the reader that open makes of its configuration.
func opening(open func(config []byte) (Reader, error)) *memory {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	m := &memory{in: inW, out: outR, done: make(chan error, 1)}
	m.killed = func() {
		cancel()
		inR.CloseWithError(io.ErrClosedPipe)
		outW.CloseWithError(io.EOF)
	}
	go func() {
		err := Work(ctx, inR, outW, open)
		cancel()
		inR.Close()
		outW.Close()
		m.done <- err
	}()
	return m
}

// asOrdered is a worker that panics, says an error or reads, as its configuration says.
func asOrdered() *memory {
	return opening(func(config []byte) (Reader, error) {
		switch string(config) {
		case "deadly":
			return counter(0, func(context.Context) error { return explode(nil) }), nil
		case "refused":
			return counter(0, func(context.Context) error { return errors.New("no such host") }), nil
		}
		return counter(1, hang), nil
	})
}

// supervised runs a supervisor on such workers until the test ends.
func supervised(t *testing.T, config string) (s *Supervisor, starts *[]time.Duration) {
	t.Helper()
	starts = new([]time.Duration)
	began := time.Now()
	spawn := func(context.Context) (Process, error) {
		*starts = append(*starts, time.Since(began))
		return asOrdered(), nil
	}
	s = NewSupervisor(Config{ID: "s1", Worker: []byte(config)}, spawn, newDisk(t), func() mesh.Nanos { return mesh.Nanos(1000 + time.Since(began)/time.Second) }, quiet())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, starts
}

// after lets time pass.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// TestSupervisor_Resume: a source that is set aside is tried at once, as often as at
// first, with the configuration that is given.
func TestSupervisor_Resume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, starts := supervised(t, "deadly")
		after(time.Minute)
		st, aside := s.Status(), time.Now().Add(-57*time.Second)
		if st.State != StateAside || st.Aside == nil || st.Aside.Deaths != deathLimit || !st.Aside.Since.Equal(aside) || !st.Aside.Next.Equal(aside.Add(asideEvery)) ||
			!strings.HasPrefix(st.Aside.Reason, "the reader panicked: ") || !strings.Contains(st.LastError, "when it is resumed") {
			t.Fatalf("%+v %+v", st, st.Aside)
		}
		was, done := s.Resume([]byte("deadly"))
		if !done || was.State != StateAside || was.Aside == nil {
			t.Errorf("%+v, %v", was, done)
		}
		after(time.Minute)
		m := time.Minute
		want := []time.Duration{0, 200 * time.Millisecond, 600 * time.Millisecond, 1400 * time.Millisecond, 3 * time.Second, m, m + 200*time.Millisecond, m + 600*time.Millisecond, m + 1400*time.Millisecond, m + 3*time.Second}
		if !slices.Equal(*starts, want) {
			t.Errorf("starts at %v, want %v", *starts, want)
		}
		if st = s.Status(); st.State != StateAside || !st.Aside.Since.Equal(aside.Add(time.Minute)) {
			t.Errorf("%+v %+v", st, st.Aside)
		}
		if _, done = s.Resume([]byte("good")); !done {
			t.Error("nothing was done")
		}
		synctest.Wait()
		if st = s.Status(); st.State != StateRunning || st.Samples != 1 || st.Aside != nil || st.LastError != "" || len(*starts) != 11 {
			t.Errorf("%d starts, %+v", len(*starts), st)
		}
		// What runs is left alone, and its configuration too.
		if was, done := s.Resume([]byte("deadly")); done || was.State != StateRunning {
			t.Errorf("%+v, %v", was, done)
		}
	})
}

// TestSupervisor_ResumeWhatWaits: also one that only waits before its next try.
func TestSupervisor_ResumeWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, starts := supervised(t, "refused")
		after(5 * time.Minute)
		tried := len(*starts)
		if st := s.Status(); st.State != StateQuarantined {
			t.Fatalf("%+v", st)
		}
		after(time.Second)
		for range 3 { // as often as one likes: it is one try
			if was, done := s.Resume([]byte("good")); !done || was.State != StateQuarantined {
				t.Errorf("%+v, %v", was, done)
			}
		}
		synctest.Wait()
		if st := s.Status(); st.State != StateRunning || len(*starts) != tried+1 {
			t.Errorf("%d starts, were %d: %+v", len(*starts), tried, st)
		}
	})
}

// TestSupervisor_ResumeWhileItIsTried: a word that came during a try that went well is
// none for a later wait.
func TestSupervisor_ResumeWhileItIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lives := 0
		begin, fall := make(chan struct{}), make(chan struct{})
		began := time.Now()
		spawn := func(context.Context) (Process, error) {
			lives++
			switch {
			case lives <= deathLimit:
				return dead("signal: killed"), nil
			case lives == deathLimit+1:
				return worker(readerFunc(func(ctx context.Context, resume []byte, log Log) error {
					<-begin
					return counter(1, func(context.Context) error { <-fall; return errors.New("the cable is out") })(ctx, resume, log)
				})), nil
			}
			return worker(counter(0, func(context.Context) error { return errors.New("the cable is out") })), nil
		}
		s := NewSupervisor(Config{ID: "s1"}, spawn, newDisk(t), func() mesh.Nanos { return mesh.Nanos(1000 + time.Since(began)/time.Second) }, quiet())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		after(11 * time.Minute)
		if st := s.Status(); st.State != StateAside || lives != deathLimit+1 {
			t.Fatalf("%d lives, %+v", lives, st)
		}
		if _, done := s.Resume(nil); !done {
			t.Error("nothing was done")
		}
		close(begin)
		synctest.Wait()
		if st := s.Status(); st.State != StateRunning || st.Aside != nil {
			t.Errorf("%+v", st)
		}
		close(fall)
		synctest.Wait()
		if st := s.Status(); st.State != StateRestarting || lives != deathLimit+1 {
			t.Errorf("%d lives: the word of before counted; %+v", lives, st)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestSupervisor_AsideWhileTheLogIsFull: what helps is still said when the log takes
// the void at last.
func TestSupervisor_AsideWhileTheLogIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		held := 0
		var full time.Time // until then
		d.fail = func() error {
			if time.Now().Before(full) {
				held++
				return errors.New("full")
			}
			return nil
		}
		s, _ := round(t, d, 3*time.Minute, func(n int) *memory {
			if n == 1 {
				return worker(counter(2, func(context.Context) error { return errors.New("the cable is out") }))
			}
			return worker(counter(0, func(context.Context) error {
				<-time.After(5 * time.Second)
				if n == 1+deathLimit {
					full = time.Now().Add(10 * time.Second)
				}
				return explode(nil)
			}))
		})
		if st := s.Status(); st.State != StateAside || st.Aside == nil || held == 0 || !strings.Contains(st.LastError, "take the signal or the source out of its file") {
			t.Errorf("%d times held, %+v", held, st)
		}
	})
}
