package sim

// control is one mechanism taken away: the simulation has to see that.
type control uint8

const (
	intact control = iota
	fsyncOff
	hubFsyncOff
	ackBeforeFsync
	ackAfterReadBack
	readBackAfterRestart
	deleteBeforeAccounted
	setApartFromRows
	highWaterMark
	epochKept
	hubEpochKept
	appendUnconditional
	openingVoids
	watermarkUncontiguous
	inFlightDropped
	foldByArrival
	controls
)

func (c control) String() string {
	return [...]string{
		"intact", "fsync off", "fsync off at the hub", "ack before fsync", "ack after read-back of a failed fsync",
		"ack after the next process read it back", "delete before accounted",
		"set stored apart from rows", "high-water mark instead of set", "epoch kept across reopening", "hub epoch kept over a restore",
		"append without its condition", "an opening that voids", "watermark without contiguity", "in-flight entry dropped when its ack was sent",
		"folding by arrival",
	}[c]
}

// seed is a schedule that shows it, see TestSimulate_Find.
func (c control) seed() uint64 {
	return [...]uint64{0, 17, 428, 8, 1965, 5008703, 79, 375, 178, 643, 1385, 356, 1374, 475, 2, 475}[c]
}

// kind is how the simulation is to see it.
func (c control) kind() string {
	switch c {
	case appendUnconditional, inFlightDropped:
		return "duplicated"
	case watermarkUncontiguous:
		return "early"
	case foldByArrival:
		return "reordered"
	default:
		return "lost"
	}
}

// onDisk breaks the agent's disk.
func (c control) onDisk(d *disk) {
	d.unsynced, d.believes, d.rereads = c == fsyncOff, c == ackAfterReadBack, c == readBackAfterRestart
}

// onStore breaks the hub's store.
func (c control) onStore(s *store) {
	s.unsynced, s.apart, s.unconditional = c == hubFsyncOff, c == setApartFromRows, c == appendUnconditional
	s.keepsEpoch, s.uncontiguous, s.arrival = c == hubEpochKept, c == watermarkUncontiguous, c == foldByArrival
}
