package torture

import "time"

// Bars of healing, on a machine that does nothing else.
const (
	agentHeals = 2 * time.Second
	hubHeals   = 5 * time.Second
)

// r01 kills the agent at seeded instants, most of them before it is up.
func r01(x *trial) {
	r := x.rig(options{})
	r.flow()
	for range x.rounds {
		pause(x.between(50*time.Millisecond, 500*time.Millisecond))
		r.edge.kill()
		r.edge.start()
	}
	r.settle()
}
