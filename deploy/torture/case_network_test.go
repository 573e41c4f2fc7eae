package torture

import (
	"strings"
	"time"

	"plantmesh/deploy/torture/proxy"
)

// halfOpenWithin: two missed answers to pings of a second, and to connect anew.
const halfOpenWithin = 8 * time.Second

// n03 makes the connection half open: nobody is told, both must notice.
func n03(x *trial) {
	r := x.rig(options{})
	r.flow()
	for range x.rounds {
		began, dials := time.Now(), r.link.Dials()
		r.link.Freeze()
		r.await("the agent calls again", 30*time.Second, func() bool { return r.link.Dials() > dials })
		r.await("samples of now are in the products", settleWithin, func() bool { return r.known().After(began) })
		x.healed(time.Since(began))
	}
	if x.heal > halfOpenWithin {
		x.Errorf("a half-open link cost %s with pings of a second, the bar is %s", x.heal, halfOpenWithin)
	}
	r.settle()
}

// n05 lets messages pass and holds the answers back.
func n05(x *trial) {
	r := x.rig(options{})
	r.flow()
	r.link.Set(proxy.Down, proxy.Fault{Stall: true})
	sent, end := r.publishes()
	defer end()
	pause(6 * time.Second)
	r.link.Set(proxy.Down, proxy.Fault{})
	if sent() == 0 {
		x.Error("nothing was published while the answers were held back: nothing was tested")
	}
	r.mended(x)
	r.settle()
}

// n06 loses the answers, and lets the agent connect again only long after
// everything was due again: what it sends then the stream has already, and no
// broker's memory of message ids says so.
func n06(x *trial) {
	r := x.rig(options{})
	r.flow()
	for range x.rounds {
		r.link.Set(proxy.Down, proxy.Fault{Swallow: true})
		_, before, _ := r.stream()
		r.await("a message reaches the stream and its answer is lost", 30*time.Second, func() bool {
			_, after, _ := r.stream()
			return after > before
		})
		pause(x.between(0, time.Second))
		r.link.Cut(true)
		r.link.Set(proxy.Down, proxy.Fault{})
		pause(4 * time.Second) // twice what makes a message due again
		r.link.Cut(false)
		r.mended(x)
	}
	r.settle()
}

// n08 turns bits and resets connections in the middle of messages.
func n08(x *trial) {
	r := x.rig(options{})
	r.flow()
	r.link.Set(proxy.Up, proxy.Fault{Flip: 40_000})
	r.link.Set(proxy.Down, proxy.Fault{Flip: 20_000})
	for range x.rounds {
		pause(x.between(100*time.Millisecond, 600*time.Millisecond))
		r.link.Reset()
	}
	pause(3 * time.Second)
	r.link.Set(proxy.Up, proxy.Fault{})
	r.link.Set(proxy.Down, proxy.Fault{})
	r.mended(x)
	if said := r.hub.said(); !strings.Contains(said, "damaged") && !strings.Contains(said, "nats") {
		x.note("the hub met no turned bit")
	}
	r.settle()
}

// mended measures how long it takes until samples of now are in the products.
func (r *rig) mended(x *trial) {
	r.Helper()
	x.healed(r.flow())
}
