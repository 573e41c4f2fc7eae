package forward

import (
	"fmt"
	"slices"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
)

// received works in a receipt.
func (f *Forward) received(r mesh.Receipt) error {
	if _, err := f.queue.Ack(r); err != nil {
		return fmt.Errorf("take a receipt: %w", err)
	}
	known := f.rank(r.Have.Through.Epoch) >= 0 || r.Have.Through.IsZero()
	for _, i := range r.Have.Islands {
		known = known && f.rank(i.Epoch) >= 0
	}
	f.account = &mesh.Account{Log: r.Have.Through.Log, Chain: f.chain, Set: r.Have}
	if !known {
		if _, err := f.refresh(); err != nil {
			return err
		}
	}
	another := !f.by.IsZero() && f.by.Epoch != r.By.Epoch || f.place.Stream != "" && r.Place.Stream != "" && f.place.Stream != r.Place.Stream
	f.by, f.lacks, f.limits = r.By, r.Lacks, r.Limits
	now := f.now()
	f.stands(r.Place, now)
	back := f.wentBack(another)
	f.mu.Lock()
	f.status.LastReceipt = now
	f.mu.Unlock()
	for _, h := range f.lacks { // a record that needs it brings it along again
		for _, road := range f.roads {
			delete(road.descs, h)
		}
	}
	if another && f.began {
		f.log.Info("the hub or its stream is another: sending from its set on", "by", r.By.String(), "through", r.Have.Through.String())
		f.restart()
		return nil
	}
	if back && f.began {
		f.log.Warn("the hub has less of this log than it had: another copy of this disk was heard in between; sending from its set on", "through", r.Have.Through.String())
		f.restart()
		return nil
	}
	f.leftOut()
	f.review(now)
	return nil
}

// stands notes where the hub is in the stream. Time without receipts doesn't count as
// standing still.
func (f *Forward) stands(at mesh.Place, now time.Time) {
	if at.Stream == "" {
		return
	}
	if at != f.place || now.Sub(f.placed) >= standsStill*time.Duration(f.cfg.ResendAfter) {
		f.arrived = now
	}
	f.place, f.placed = at, now
}

// wentBack reports whether the set has less of this log than it had, in one epoch
// of the hub's: where it takes in a branch that a clone had ended, it asks for what
// was sent, and answered, long ago.
func (f *Forward) wentBack(another bool) bool {
	through := f.account.Set.Through
	if another {
		f.reached = through
		return false
	}
	if f.rank(through.Epoch) < 0 { // a clone's
		return false
	}
	back := f.compare(through, f.reached) < 0
	f.reached = through
	return back
}

// leftOut marks what the hub has passed while it lacks descriptors: it comes
// again as soon as those have gone.
func (f *Forward) leftOut() {
	if len(f.lacks) == 0 || f.place.Stream == "" {
		return
	}
	for _, r := range f.roads {
		for i := range r.flights {
			r.flights[i].overtaken = r.flights[i].overtaken || r.flights[i].seq <= f.place.Seq
		}
	}
}

// restart sends everything the set lacks, up to the live road: what was in
// flight may be gone with the stream, or with the hub that had read it.
func (f *Forward) restart() {
	f.forget()
	f.jobs, f.again = nil, nil
	f.add(job{after: f.through(), until: f.live})
}

// review drops what has arrived from the flights and sends again what is due:
// the hub has passed it long since, or a later message of the same road has
// arrived and this one has not.
func (f *Forward) review(now time.Time) {
	f.checked = now
	for _, name := range []subject.Road{subject.Live, subject.Backlog} { // in one order: what comes of it is sent in that
		r := f.roads[name]
		arrived := -1
		for i := range r.flights {
			lacking := f.lacking(r.flights[i].runs)
			if !slices.Equal(lacking, r.flights[i].runs) {
				arrived = i
			}
			r.flights[i].runs = lacking
		}
		for i := range arrived + 1 { // with a later one of its message, or of a later message
			r.flights[i].overtaken = true
		}
		kept := r.flights[:0]
		for _, fl := range r.flights {
			if len(fl.runs) == 0 {
				continue
			}
			if f.due(&fl, now) {
				f.roads[subject.Backlog].outset = false // perhaps an opening was lost
				for _, run := range fl.runs {
					f.again = append(f.again, job{
						after: mesh.Position{Log: f.log0(), Epoch: run.Epoch, Seq: run.First - 1},
						until: mesh.Position{Log: f.log0(), Epoch: run.Epoch, Seq: run.Last}, tries: fl.tries + 1,
					})
				}
				continue
			}
			kept = append(kept, fl)
		}
		r.flights = kept
	}
}

// log0 is the name of the log.
func (f *Forward) log0() mesh.LogID { return mesh.LogID(subject.AgentLog(f.cfg.Site, f.cfg.Agent)) }

// due says whether a message is sent again.
func (f *Forward) due(fl *flight, now time.Time) bool {
	after := time.Duration(f.cfg.ResendAfter)
	if fl.overtaken {
		return now.Sub(fl.at) >= min(after, time.Duration(f.cfg.ResendGap)<<min(fl.tries, 10))
	}
	if f.place.Stream == "" { // the hub doesn't say how far it is: be patient
		return !f.by.IsZero() && now.Sub(fl.at) >= after<<min(fl.tries, 6)
	}
	if fl.passed.IsZero() && f.place.Seq >= fl.seq {
		fl.passed = now
	}
	if fl.passed.IsZero() {
		since := f.arrived
		if fl.at.After(since) {
			since = fl.at
		}
		return f.placed.Sub(since) >= standsStill*after<<min(fl.tries, 6)
	}
	return now.Sub(fl.passed) >= after
}

// standsStill is for how many times ResendAfter a hub that gives receipts may stay
// before what was sent: then the stream has gone back, as one restored from an old
// copy does, and nobody else may have anything to say that moves it on.
const standsStill = 4

// lacking is what of runs the hub has not accounted for.
func (f *Forward) lacking(runs []mesh.Range) (out []mesh.Range) {
	through := f.account.Set.Through
	t := f.rank(through.Epoch)
	for _, r := range runs {
		switch i := f.rank(r.Epoch); {
		case i < t:
			continue
		case i == t && t >= 0:
			r.First = max(r.First, through.Seq+1)
		}
		for _, o := range f.account.Set.Islands {
			if o.Epoch != r.Epoch || o.Last < r.First || r.Last < o.First {
				continue
			}
			if r.First < o.First {
				out = append(out, mesh.Range{Epoch: r.Epoch, First: r.First, Last: o.First - 1})
			}
			r.First = o.Last + 1
		}
		if r.First <= r.Last {
			out = append(out, r)
		}
	}
	return out
}

// extend adds a position to runs in log order.
func extend(runs []mesh.Range, at mesh.Position) []mesh.Range {
	if n := len(runs); n > 0 && runs[n-1].Epoch == at.Epoch && runs[n-1].Last+1 == at.Seq {
		runs[n-1].Last++
		return runs
	}
	return append(runs, mesh.Range{Epoch: at.Epoch, First: at.Seq, Last: at.Seq})
}
