package source

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
)

// run is one life of a worker.
type run struct {
	s      *Supervisor
	p      Process
	start  start
	offers chan mesh.Offer
	heard  chan struct{} // a frame came
	ended  chan struct{} // nothing comes any more
	begun  chan struct{} // the worker has its start
	in     sync.Mutex    // one frame to the worker at a time

	// How it ended; read when all goroutines of the run have ended.
	fatal string // of listen: the reader's own last word
	sense error  // of listen: what came made none
	own   error  // of commit: the agent's side, which kills the worker
	hung  error  // of watch: it was silent too long
}

// listen reads the worker's frames until its output ends. When the agent stops
// it goes on reading, so that no worker hangs in a write.
func (r *run) listen(ctx context.Context) error {
	defer close(r.ended)
	in := bufio.NewReaderSize(r.p.Stdout(), 64<<10)
	var held shelf
	for {
		kind, payload, err := readFrame(in, maxOfferFrame)
		if err != nil {
			if r.fatal != "" {
				return errors.New(r.fatal)
			}
			return fmt.Errorf("the worker is gone: %w", err)
		}
		select {
		case r.heard <- struct{}{}:
		default:
		}
		switch kind {
		case frameAlive:
		case frameTell:
			r.s.told(strings.ToValidUTF8(string(payload[:min(len(payload), maxTold)]), "?"))
		case frameFatal:
			r.fatal = string(payload[:min(len(payload), maxFatal)])
			if err := r.p.Stdin().Close(); err != nil {
				r.s.log.Debug("the worker's input was closed already", "error", err.Error())
			}
		case frameRaw:
			r.sense = r.s.cfg.Listeners.deliver(r.s.cfg.ID, payload)
		case frameOffer:
			r.sense = r.offered(ctx, payload, &held)
		default:
			r.sense = fmt.Errorf("%w: frame %q from the worker", errPipe, kind)
		}
		if r.sense != nil {
			return r.kill(r.sense)
		}
	}
}

// offered takes an offer of the worker's.
func (r *run) offered(ctx context.Context, payload []byte, held *shelf) error {
	o, err := decodeOffer(payload, held)
	if err != nil {
		return err
	}
	select {
	case r.offers <- o:
	case <-ctx.Done():
	}
	return nil
}

// kill ends a worker that can't be trusted any more.
func (r *run) kill(why error) error {
	if err := r.p.Kill(); err != nil {
		return errors.Join(why, fmt.Errorf("kill the worker: %w", err))
	}
	return why
}

// commit gives the worker its start, then brings its offers into the log and
// answers how many are durable. What waits goes into one append.
func (r *run) commit(ctx context.Context) error {
	if err := r.write(frameStart, r.start.encode()); err != nil {
		return err
	}
	close(r.begun)
	var done uint64
	for {
		var offers []mesh.Offer
		select {
		case <-ctx.Done():
			return nil
		case o := <-r.offers:
			offers = append(offers, o)
		}
		for waiting := len(r.offers); waiting > 0; waiting-- {
			offers = append(offers, <-r.offers)
		}
		n := uint64(len(offers))
		if err := r.s.Take(ctx, offers); err != nil {
			if ctx.Err() == nil {
				r.own = err
				err = r.kill(err)
			}
			return err
		}
		done += n
		fault.Point("source.told.before")
		if err := r.write(frameCommitted, binary.LittleEndian.AppendUint64(nil, done)); err != nil {
			return err
		}
	}
}

// write writes a frame to the worker.
func (r *run) write(kind byte, payload []byte) error {
	r.in.Lock()
	defer r.in.Unlock()
	return writeFrame(r.p.Stdin(), kind, payload)
}

// watch ends the worker: gently when the agent stops or the run has failed,
// by force when it doesn't go or hangs.
func (r *run) watch(ctx context.Context) error {
	silence := time.NewTimer(silenceLimit)
	defer silence.Stop()
	for {
		select {
		case <-r.heard:
			silence.Reset(silenceLimit)
			continue
		case <-silence.C:
			r.hung = fmt.Errorf("the worker said nothing for %s and was killed", silenceLimit)
			return r.kill(r.hung)
		case <-r.ended:
			return nil
		case <-ctx.Done():
		}
		break
	}
	if err := r.p.Stdin().Close(); err != nil {
		r.s.log.Debug("the worker's input was closed already", "error", err.Error())
	}
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-r.ended:
		return nil
	case <-grace.C:
		return r.kill(fmt.Errorf("the worker did not end within %s and was killed", stopGrace))
	}
}

// end is how a worker's life ended: asked is what the run itself says, gone the
// process.
func (r *run) end(asked, gone error) error {
	switch {
	case r.own != nil:
		return errors.Join(r.own, gone)
	case r.fatal != "" && !strings.HasPrefix(r.fatal, panicked):
		return errors.Join(errors.New(r.fatal), gone)
	case r.fatal != "":
		return &DeathError{reason(r.fatal)}
	case r.hung != nil:
		return &DeathError{reason(r.hung.Error())}
	case r.sense != nil:
		return &DeathError{reason(r.sense.Error())}
	case gone != nil:
		return &DeathError{reason("the worker is gone: " + gone.Error())}
	}
	return errors.Join(asked, gone)
}
