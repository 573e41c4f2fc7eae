// Package torture breaks the chain on purpose: a real agent, a real hub, real
// files and sockets, and what becomes of each sample afterwards.
//
// A device in the test emits samples that count, writes each into a ledger
// before it leaves, and writes there too what the agent said is received
// (OPC UA publish-ack, MQTT PUBACK): synced, and never on the disk that is
// broken. When the faults are over and nothing waits any more, the hub's
// products signals and coverage are held against that ledger. Five numbers come
// out, and all must be 0:
//
//	lost       the device was told received, and the product has it not
//	duplicated the product has it more than once
//	phantom    the product has what was never emitted
//	reordered  of one signal an earlier sample stands behind a later one
//	unmarked   emitted, not in the product, and no gap says so
//
// `make torture-quick` runs every case of the table once with one seed,
// `make torture` with many rounds and seeds (PLANTMESH_SEEDS=n). Of one case:
//
//	PLANTMESH_TORTURE=quick go test -v -count=1 -run 'TestTorture/R06' ./deploy/torture
//
// and PLANTMESH_SEED=n repeats a seed. A case that can't run here says why and
// is skipped; where PLANTMESH_REQUIRE names root, that is a failure.
//
// N01 and M01 also print figures below the table: name, value, unit, bar, and
// the ratio to it. How fast a backlog drains beside 5,000 live samples a second
// (drain), how late 99 of 100 of those are in the hub's log (live_stored_p99)
// and in product signals (live_product_p99), and what agent and workers take
// together in each state (pss_*, proc_pid_smaps_rollup(5): a page that several
// share counts once). In the quick tier a clock may be off twofold; memory may
// not. `make torture` does N01 with an hour of 5,000 values a second, which
// takes a quarter of an hour, 3 GB of disk and 12 GB of memory for the
// comparison; PLANTMESH_OUTAGE=n makes it another number of minutes.
//
// # A case more
//
// One line in the table (cases in table_test.go) and one function:
//
//	{id: "M01", what: "agent's disk full", quick: 1, long: 10, needs: []need{root, loop}, run: m01},
//
//	func m01(x *trial) {
//		disk := x.disk(32 << 20)                            // an ext4 of its own on a loop device
//		r := x.rig(options{edgeData: disk.path("agent")})   // hub, agent, sources, ledger: all run
//		r.flow()                                            // until samples are in the product
//		r.link.Cut(true)                                    // ... the fault ...
//		r.link.Cut(false)
//		r.settle()                                          // quiet, idle, compared: adds the five numbers
//	}
//
// A trial has rounds and luck (seeded dice). A rig has hub and edge (kill,
// start, stop, signal, wait, said; inject has system calls fail by strace), link (package proxy, between agent and
// hub), load (the sources), and waits: flow, settle, await. options set folders,
// more YAML, sources, failpoints (options{faulty: true}, then
// r.edge.env = []string{"PLANTMESH_FAULT=buffer.commit.after:exit137:hit=3"}).
// What a policy may drop is told to settle by mayLose; every sample missing
// for that reason must still stand in a gap of that cause. Every device here
// keeps what nobody acknowledged, so a gap in the end is a failure too, unless
// its cause stands in mayLose or options.gaps; and so is a sample that stands
// twice in the hub's log, though the product shows it once.
//
// A fault that destroys what was received (D02, D08 to D13) says with mustMiss
// what it can have cost: something must be missing, and nothing else may be.
// segments reads what lies where in the agent's buffer, so that the damage is done
// to records the hub lacks.
package torture
