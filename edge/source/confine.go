package source

import "runtime/debug"

const (
	// workerData is how much memory a worker may have at all. One of 5,000 signals
	// needs some 40 MiB, and Go's own bookkeeping 40 that are only reserved.
	workerData = 256 << 20
	// workerStack is how large one stack may grow: a hundred times what a decoder needs.
	workerStack = 32 << 20
)

// Confine bounds the memory of this process, which is a worker: what a device
// sends may kill it, but not the gateway. It is called before anything is read.
// Where the system has no such bound, the collector's (see Exec) stands alone. The
// error says why there is none; the worker can go on without.
func Confine() error {
	debug.SetMaxStack(workerStack)
	return confine(workerData)
}
