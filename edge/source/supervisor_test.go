package source

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// readerFunc is a Reader.
type readerFunc func(ctx context.Context, resume []byte, log Log) error

func (f readerFunc) Run(ctx context.Context, resume []byte, log Log) error {
	return f(ctx, resume, log)
}

// memory is a Process of this process: two pipes and a goroutine.
type memory struct {
	in     *io.PipeWriter
	out    *io.PipeReader
	killed func()
	done   chan error
}

func (m *memory) Stdin() io.WriteCloser { return m.in }
func (m *memory) Stdout() io.Reader     { return m.out }
func (m *memory) Wait() error           { return <-m.done }
func (m *memory) Kill() error           { m.killed(); return nil }

// worker runs Work for one reader.
func worker(reader Reader) *memory {
	return opening(func([]byte) (Reader, error) { return reader, nil })
}

// disk is a Buffer in memory.
type disk struct {
	t  *testing.T
	mu sync.Mutex

	lines []string // what the log holds, in words
	state map[string][]byte
	kept  map[string]string
	fail  func() error
	moved chan struct{}
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	return &disk{t: t, state: map[string][]byte{}, kept: map[string]string{}, moved: make(chan struct{}, 1000)}
}

func (d *disk) Append(_ context.Context, offers []mesh.Offer) ([]mesh.Position, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		if err := d.fail(); err != nil {
			return nil, err
		}
	}
	for _, o := range offers {
		if o.State != nil {
			d.state[o.Source] = bytes.Clone(o.State)
		}
		for _, k := range o.Kept {
			d.kept[k.Name] = string(k.Bytes)
		}
		if len(o.Sealed) > 0 {
			d.lines = append(d.lines, tell(d.t, o))
		}
	}
	d.moved <- struct{}{}
	return make([]mesh.Position, len(offers)), nil
}

func (d *disk) State(source string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state[source], nil
}

func (d *disk) Kept(string) (map[string][]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string][]byte{}
	for name, b := range d.kept {
		out[name] = []byte(b)
	}
	return out, nil
}

func (d *disk) told() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, " | ")
}

// counter is a reader that says one sample per commit and proves 10 more,
// from where it was; after times commits it does what end says.
func counter(times int, end func(ctx context.Context) error) readerFunc {
	return func(ctx context.Context, resume []byte, log Log) error {
		s, err := NewSealer(Window{}, "s1", nil)
		if err != nil {
			return err
		}
		s.Begin(100)
		if resume != nil {
			s.Resume(mesh.Nanos(binary.LittleEndian.Uint64(resume)))
		}
		for range times {
			s.Add(at(int64(s.Proof())))
			s.Prove(s.Proof() + 10)
			o, err := s.Seal(binary.LittleEndian.AppendUint64(nil, uint64(s.Proof())))
			if err != nil {
				return err
			}
			n, err := log.Append(ctx, o)
			if err != nil {
				return err
			}
			if _, err := log.Committed(ctx, n-1); err != nil {
				return err
			}
		}
		return end(ctx)
	}
}

func hang(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestSupervisor_VoidsWhatADeadWorkerDidNotHear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d, lives := newDisk(t), 0
		spawn := func(context.Context) (Process, error) {
			lives++
			if lives == 1 {
				return worker(counter(2, func(context.Context) error { return errors.New("the cable is out") })), nil
			}
			return worker(counter(1, hang)), nil
		}
		s := NewSupervisor(Config{ID: "s1"}, spawn, d, func() mesh.Nanos { return 1000 }, quiet())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		for range 4 {
			<-d.moved
		}
		synctest.Wait()
		want := "1 in [100,110) complete 110 | 1 in [110,120) complete 120 | void died [120,1000) | 1 in [120,130) complete 130"
		if got := d.told(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		st := s.Status()
		if st.State != StateRunning || st.Restarts != 1 || st.Samples != 3 || st.Proof != 130 || !strings.Contains(st.LastError, "the cable is out") {
			t.Errorf("status %+v", st)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if st := s.Status(); st.State != StateStopped {
			t.Errorf("status after the stop %+v", st)
		}
	})
}

func TestSupervisor_BackoffAndQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d := newDisk(t)
		var starts []time.Duration
		began := time.Now()
		s := NewSupervisor(Config{ID: "s1"}, nil, d, func() mesh.Nanos { return 1000 }, quiet())
		s.spawn = func(context.Context) (Process, error) {
			starts = append(starts, time.Since(began))
			if len(starts) == 7 {
				if st := s.Status(); st.State != StateQuarantined {
					t.Errorf("status %+v", st)
				}
				return worker(counter(1, hang)), nil
			}
			return nil, errors.New("no such program")
		}
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		<-d.moved
		synctest.Wait()
		want := []time.Duration{0, 200 * time.Millisecond, 600 * time.Millisecond, 1400 * time.Millisecond, 3 * time.Second, 33 * time.Second, 63 * time.Second}
		if !slices.Equal(starts, want) {
			t.Errorf("starts at %v, want %v", starts, want)
		}
		if st := s.Status(); st.State != StateRunning || st.Restarts != 6 {
			t.Errorf("status %+v", st)
		}
		cancel()
		<-done
	})
}

func TestSupervisor_HoldsTheWorkerWhileTheLogTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d := newDisk(t)
		fails := 5
		d.fail = func() error {
			if fails--; fails >= 0 {
				return errors.New("the disk is full")
			}
			return nil
		}
		s := NewSupervisor(Config{ID: "s1"}, func(context.Context) (Process, error) { return worker(counter(2, hang)), nil }, d, func() mesh.Nanos { return 1000 }, quiet())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		if st := s.Status(); st.State != StateHeld || st.LastError != "the disk is full" {
			t.Errorf("status %+v", st)
		}
		<-d.moved
		<-d.moved
		synctest.Wait()
		if got, want := d.told(), "1 in [100,110) complete 110 | 1 in [110,120) complete 120"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		cancel()
		<-done
	})
}

func TestSupervisor_KillsASilentWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began, lives := time.Now(), make(chan time.Duration, 10)
		spawn := func(context.Context) (Process, error) {
			lives <- time.Since(began)
			inR, inW := io.Pipe()
			outR, outW := io.Pipe()
			m := &memory{in: inW, out: outR, done: make(chan error, 1)}
			m.killed = sync.OnceFunc(func() { inR.Close(); outW.Close(); m.done <- errors.New("signal: killed") })
			go func() {
				if _, err := io.Copy(io.Discard, inR); err != nil && !errors.Is(err, io.ErrClosedPipe) {
					t.Error(err)
				}
			}()
			return m, nil
		}
		s := NewSupervisor(Config{ID: "s1"}, spawn, newDisk(t), func() mesh.Nanos { return 1000 }, quiet())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		<-lives
		if d := <-lives; d != silenceLimit+backoffFirst {
			t.Errorf("the second life began after %v", d)
		}
		synctest.Wait()
		if st := s.Status(); !strings.Contains(st.LastError, "said nothing") {
			t.Errorf("status %+v", st)
		}
		cancel()
		<-done
	})
}

func TestSupervisor_RefusesAForeignRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		lies := readerFunc(func(ctx context.Context, _ []byte, log Log) error {
			s, err := NewSealer(Window{}, "s2", nil)
			if err != nil {
				return err
			}
			s.Add(at(1))
			o, err := s.Seal(nil)
			if err != nil {
				return err
			}
			if _, err := log.Append(ctx, o); err != nil {
				return err
			}
			return hang(ctx)
		})
		d, lives := newDisk(t), make(chan bool, 10)
		s := NewSupervisor(Config{ID: "s1"}, func(context.Context) (Process, error) { lives <- true; return worker(lies), nil }, d, func() mesh.Nanos { return 1000 }, quiet())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		<-lives
		<-lives
		if d.told() != "" || !strings.Contains(s.Status().LastError, `offers a batch about "s2"`) {
			t.Errorf("log %q, status %+v", d.told(), s.Status())
		}
		cancel()
		<-done
	})
}

func TestWork_CreditIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		appended := 0
		m := worker(readerFunc(func(ctx context.Context, _ []byte, log Log) error {
			for {
				if _, err := log.Append(ctx, mesh.Offer{State: []byte("x")}); err != nil {
					return err
				}
				mu.Lock()
				appended++
				mu.Unlock()
			}
		}))
		got := 0
		go func() {
			for {
				kind, _, err := readFrame(m.out, maxOfferFrame)
				if err != nil {
					return
				}
				if kind == frameOffer {
					mu.Lock()
					got++
					mu.Unlock()
				}
			}
		}()
		check := func(want int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got != want || appended != want {
				t.Errorf("%d offers came, %d were appended, want %d", got, appended, want)
			}
		}
		if err := writeFrame(m.in, frameStart, start{}.encode()); err != nil {
			t.Fatal(err)
		}
		check(Credit)
		if err := writeFrame(m.in, frameCommitted, binary.LittleEndian.AppendUint64(nil, 2)); err != nil {
			t.Fatal(err)
		}
		check(Credit + 2)
		if err := m.in.Close(); err != nil {
			t.Fatal(err)
		}
		if err := m.Wait(); err != nil {
			t.Errorf("Work = %v after the agent went", err)
		}
	})
}

func TestWork_TellsWhyItEnds(t *testing.T) {
	for _, c := range []struct {
		name, want string
		run        readerFunc
	}{
		{"error", "no route", func(context.Context, []byte, Log) error { return errors.New("no route") }},
		{"panic", "the reader panicked: index", func(context.Context, []byte, Log) error { panic("index") }},
		{"nothing", "without being asked", func(context.Context, []byte, Log) error { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := worker(c.run)
			if err := writeFrame(m.in, frameStart, start{}.encode()); err != nil {
				t.Fatal(err)
			}
			kind, payload, err := readFrame(m.out, maxOfferFrame)
			if err != nil || kind != frameFatal || !strings.Contains(string(payload), c.want) {
				t.Errorf("frame %q %q, %v", kind, payload, err)
			}
			if err := m.in.Close(); err != nil {
				t.Fatal(err)
			}
			if err := m.Wait(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Work = %v", err)
			}
		})
	}
}

func TestSupervisor_HearsWhatTheReaderTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		talks := readerFunc(func(ctx context.Context, _ []byte, log Log) error {
			Tell(log, "not connected: "+strings.Repeat("x", 10_000))
			Tell(log, "connected")
			return hang(ctx)
		})
		s := NewSupervisor(Config{ID: "s1"}, func(context.Context) (Process, error) { return worker(talks), nil }, newDisk(t), func() mesh.Nanos { return 1000 }, quiet())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		if st := s.Status(); st.Told != "connected" || st.State != StateRunning {
			t.Errorf("status %+v", st)
		}
		cancel()
		<-done
	})
}

func TestPipe_Offer(t *testing.T) {
	sealed, err := wire.SealVoid(void(mesh.CauseDied, 1, 2))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []mesh.Offer{
		{},
		{State: []byte{}},
		{Kept: []mesh.Kept{{Name: "a", Bytes: []byte("b")}, {Name: "c", Bytes: []byte{}}}},
		{Sealed: [][]byte{sealed, sealed}, State: []byte("state"), Kept: []mesh.Kept{{Name: "d", Bytes: []byte("e")}}, Descriptors: []mesh.Descriptor{{Kind: mesh.DescribeSignals, Content: []byte("a table")}}},
	} {
		var out, in shelf
		for round := range 2 { // the second time the table is known
			size, err := offerBytes(o)
			if err != nil {
				t.Fatal(err)
			}
			b := appendOffer(nil, o, &out)
			if len(b) > size {
				t.Errorf("%d bytes, said were %d", len(b), size)
			}
			for i := range b {
				short := in
				if _, err := decodeOffer(b[:i], &short); err == nil {
					t.Errorf("%d of %d bytes were taken", i, len(b))
				}
			}
			got, err := decodeOffer(b, &in)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", o) {
				t.Errorf("round %d: got %#v, want %#v", round, got, o)
			}
			if again := bytes.Contains(b, []byte("a table")); round > 0 && again {
				t.Error("the table was sent twice")
			}
		}
	}
}

func TestPipe_BadFrames(t *testing.T) {
	var good bytes.Buffer
	if err := writeFrame(&good, frameAlive, []byte("payload")); err != nil {
		t.Fatal(err)
	}
	flip := func(i int) []byte { b := bytes.Clone(good.Bytes()); b[i] ^= 0x40; return b }
	for name, b := range map[string][]byte{
		"payload": flip(7), "kind": flip(4), "sum": flip(good.Len() - 1), "length": flip(2),
		"short": good.Bytes()[:good.Len()-1], "empty": {0, 0, 0, 0, 0, 0, 0, 0},
	} {
		if _, _, err := readFrame(bytes.NewReader(b), 1<<20); !errors.Is(err, errPipe) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzPipe_Offer(f *testing.F) {
	table := mesh.Descriptor{Kind: 1, Content: []byte("c")}
	f.Add(appendOffer(nil, mesh.Offer{Sealed: [][]byte{{1}}, State: []byte("s"), Descriptors: []mesh.Descriptor{table}}, new(shelf)))
	f.Add(appendOffer(nil, mesh.Offer{Kept: []mesh.Kept{{Name: "a", Bytes: []byte("b")}}}, new(shelf)))
	f.Add(appendOffer(nil, mesh.Offer{Descriptors: []mesh.Descriptor{table, table, {Kind: 2, Content: []byte("d")}}}, new(shelf)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in shelf
		o, err := decodeOffer(b, &in)
		if err != nil {
			return
		}
		var again shelf
		got, err := decodeOffer(appendOffer(nil, o, new(shelf)), &again)
		if err != nil || fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", o) {
			t.Errorf("%#v became %#v, %v", o, got, err)
		}
	})
}

// More tables than the shelf has places: what fell off is sent anew.
func TestPipe_ShelfGoesRound(t *testing.T) {
	var out, in shelf
	var tables []mesh.Descriptor
	for i := range 2*shelfPlaces + 3 {
		tables = append(tables, mesh.Descriptor{Kind: mesh.DescribeSignals, Content: fmt.Appendf(nil, "table %d", i)})
	}
	for i := range 200 {
		o := mesh.Offer{Descriptors: []mesh.Descriptor{tables[i*7%len(tables)], tables[i%5]}}
		got, err := decodeOffer(appendOffer(nil, o, &out), &in)
		if err != nil || fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", o) {
			t.Fatalf("offer %d: %v, %v", i, got, err)
		}
	}
}
