package opcua

import (
	"time"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

// doubt tells when the server's clock ceases to be believed, and when it is again.
func (r *Reader) doubt(doubted bool, at mesh.Nanos) {
	if doubted == r.doubted {
		return
	}
	r.doubted = doubted
	if doubted {
		says := "no time"
		if at != 0 {
			says = at.Time().UTC().Format(time.RFC3339)
		}
		source.Tell(r.out, "connected, but nothing is proven: the server's clock says "+says)
		return
	}
	source.Tell(r.out, r.connected())
}

// proves claims what a message proves that nothing waits behind.
func (r *Reader) proves(at, now mesh.Nanos) {
	if r.shallow.on {
		r.weighed(at, now)
	}
	if !r.state.Fresh {
		r.sealer.Prove(at - mesh.Nanos(r.cfg.Disorder))
	}
}

// begin starts a new proof, where the server's history can't be asked for what
// lies between the one before and now.
func (r *Reader) begin(at, now mesh.Nanos) {
	if r.state.Heard == 0 {
		r.state.Heard = at
	}
	if !r.asksPast(r.state.Heard) {
		r.begun(now, "", false)
	}
}

// notKept is what a gap says.
const notKept = "the server has not kept what changed while nobody listened"

// missing is what a gap says: why the one subscription ended and the next began.
func (r *Reader) missing() (mesh.Cause, string) {
	if r.spoilt.said != "" {
		return mesh.CauseUnreadable, r.spoilt.said
	}
	return mesh.CauseDisconnected, notKept
}

// begun ends the wait for a new proof: it goes on with the one before where that is
// filled, else what lies between was not heard. Of a signal that the server refuses
// nothing is known from here on.
func (r *Reader) begun(now mesh.Nanos, why string, filled bool) {
	at, proof := r.state.Heard, r.sealer.Proof()
	r.state.Fresh, r.state.Heard, r.state.Asked, r.state.Apart = false, 0, 0, nil
	if !filled && !r.lost(why) {
		if proof > 0 && at > proof && !r.unsure {
			cause, note := r.missing()
			if why != "" {
				note += "; " + why
			}
			r.sealer.Void(r.void(cause, mesh.Span{From: proof, To: at}, note))
		}
		r.sealer.Begin(at)
	}
	alone := r.lacking() != nil
	r.unsure, r.spoilt, r.shallow.lacks = false, spoilt{}, nil
	if alone {
		return // the others go on
	}
	for _, x := range r.state.Refused {
		r.sealer.Add(mesh.Sample{Signal: r.table[x.Signal].ID, Time: max(r.sealer.Proof(), r.last[x.Signal]), Server: at, Agent: now, Status: x.Status, Flags: mesh.FlagInitial})
	}
}
