package source

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
)

// aliveEvery is how often a worker says that it runs; the agent waits for
// fifteen of them.
const aliveEvery = 2 * time.Second

// errAgentGone ends a worker whose agent closed the pipe. It is not a fault.
var errAgentGone = errors.New("the agent closed the pipe")

// Work runs one reader in a worker process: r and w are the pipes from and to
// the agent, normally standard input and output. open makes the reader from
// the configuration the agent sends.
//
// Work returns nil when the agent closes r, and the reader's error otherwise,
// after having told it to the agent. It ends only when r ends: the agent closes
// it once it has read why. The process must leave interrupts alone: a terminal
// sends them to the whole group, and the agent decides when a worker ends.
func Work(ctx context.Context, r io.Reader, w io.Writer, open func(config []byte) (Reader, error)) error {
	in := bufio.NewReader(r)
	kind, payload, err := readFrame(in, maxStartFrame)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the start frame: %w", err)
	}
	if kind != frameStart {
		return fmt.Errorf("%w: frame %q where the start should be", errPipe, kind)
	}
	s, err := decodeStart(payload)
	if err != nil {
		return err
	}
	p := &port{w: w, changed: make(chan struct{}), taps: newTaps()}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.listen(in) })
	g.Go(func() error { return p.beat(ctx) })
	g.Go(func() error { return p.tellRaw(ctx) })
	var why error // the reader's own end; the agent may close the pipe before it is returned
	g.Go(func() error {
		err := read(ctx, s, p, open)
		if ctx.Err() == nil {
			why = err
			err = errors.Join(err, p.send(frameFatal, []byte(err.Error())))
		}
		return err
	})
	err = g.Wait()
	if errors.Is(err, errAgentGone) {
		return why
	}
	return err
}

// read runs the reader and turns every way to end into an error. A panic in a
// decoder is told to the agent before the process ends.
func read(ctx context.Context, s start, log Log, open func([]byte) (Reader, error)) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf(panicked+"%v in %s", p, panickedIn())
		}
	}()
	reader, err := open(s.config)
	if err != nil {
		return fmt.Errorf("open the reader: %w", err)
	}
	if d, ok := reader.(Doubter); ok && s.doubted {
		d.Doubt()
	}
	if k, ok := reader.(Keeper); ok {
		k.Keep(s.kept)
	}
	if err := reader.Run(ctx, s.resume, log); err != nil {
		return err
	}
	return errors.New("the reader ended without being asked")
}

// panicked begins what is told of a panic: the agent counts those.
const panicked = "the reader panicked: "

// panickedIn is the function that panicked; it is called by what recovers.
func panickedIn() string {
	calls := make([]uintptr, 32)
	frames := runtime.CallersFrames(calls[:runtime.Callers(2, calls)])
	for after := false; ; {
		f, more := frames.Next()
		switch name := f.Function; {
		case name == "runtime.gopanic":
			after = true
		case after && !strings.HasPrefix(name, "runtime.") && !strings.HasPrefix(name, "reflect."):
			return name
		}
		if !more {
			return "no known function"
		}
	}
}

// port is the worker's end of the pipe, and the Log of its reader.
type port struct {
	wmu  sync.Mutex // one frame at a time
	w    io.Writer
	held shelf  // of wmu, as is room
	room []byte // of an offer's frame
	taps *Taps

	mu        sync.Mutex // protects the fields below
	sent      uint64
	committed uint64
	changed   chan struct{} // closed and replaced when committed moves
}

// Append implements Log.
func (p *port) Append(ctx context.Context, o mesh.Offer) (uint64, error) {
	fault.Point("source.decoded")
	size, err := offerBytes(o)
	if err != nil {
		return 0, err
	}
	for {
		p.mu.Lock()
		free, changed := p.sent-p.committed < Credit, p.changed
		if free {
			p.sent++
		}
		n := p.sent
		p.mu.Unlock()
		if free {
			return n, p.offer(o, size)
		}
		if err := await(ctx, changed); err != nil {
			return 0, err
		}
	}
}

// offer sends an offer that is small enough.
func (p *port) offer(o mesh.Offer, size int) error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	b := appendOffer(beginFrame(slices.Grow(p.room[:0], size+16), frameOffer), o, &p.held)
	if p.room = b; cap(b) > mostRoom {
		p.room = nil
	}
	return endFrame(p.w, b)
}

// mostRoom is how much room for frames is kept: most windows fit.
const mostRoom = 1 << 20

// Committed implements Log.
func (p *port) Committed(ctx context.Context, after uint64) (uint64, error) {
	for {
		p.mu.Lock()
		n, changed := p.committed, p.changed
		p.mu.Unlock()
		if n > after {
			return n, nil
		}
		if err := await(ctx, changed); err != nil {
			return n, err
		}
	}
}

// Tell implements Teller. What can't be told is not worth an error: the next
// frame meets the same pipe.
func (p *port) Tell(text string) {
	_ = p.send(frameTell, []byte(text[:min(len(text), maxTold)])) // see above
}

func await(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *port) send(kind byte, payload []byte) error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	return writeFrame(p.w, kind, payload)
}

// listen takes what the agent says until the agent goes.
func (p *port) listen(r io.Reader) error {
	for {
		kind, payload, err := readFrame(r, maxStartFrame)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
			return errAgentGone
		}
		if err != nil {
			return fmt.Errorf("read from the agent: %w", err)
		}
		if kind == frameListen {
			if err := p.taps.set(payload); err != nil {
				return err
			}
			continue
		}
		if kind != frameCommitted || len(payload) != 8 {
			return fmt.Errorf("%w: frame %q of %d bytes from the agent", errPipe, kind, len(payload))
		}
		if err := p.commit(binary.LittleEndian.Uint64(payload)); err != nil {
			return err
		}
	}
}

func (p *port) commit(n uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n < p.committed || n > p.sent {
		return fmt.Errorf("%w: %d offers committed of %d, %d were before", errPipe, n, p.sent, p.committed)
	}
	p.committed = n
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

// Taps implements Tapped.
func (p *port) Taps() *Taps { return p.taps }

// tellRaw tells the agent raw values, as they come.
func (p *port) tellRaw(ctx context.Context) error {
	for {
		select {
		case <-p.taps.wake:
		case <-ctx.Done():
			return nil
		}
		if !pause(ctx, rawEvery) { // others go with it
			return nil
		}
		b, err := p.taps.take()
		if err == nil && b != nil {
			err = p.send(frameRaw, b)
		}
		if err != nil {
			return err
		}
	}
}

// beat tells the agent that this process runs, also while its reader waits.
func (p *port) beat(ctx context.Context) error {
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := p.send(frameAlive, nil); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}
