package buffer

import "os"

// ahead writes a segment's file before bbolt needs it. A commit into blocks
// that are there already writes what it has to say and nothing else; one into
// new blocks, or into blocks that were only promised (fallocate), has the file
// system's journal written with it. What is written ahead is zeros behind the
// end of the file, where no page can be.
type ahead struct {
	file *os.File // nil: nothing is written ahead
	step int64
	end  int64 // the file may be as long
}

// aheadMost bounds what is written ahead at once: no commit waits long for it.
const aheadMost = 1 << 20

// aheadStep is how much is written ahead at once in segments of this size.
func aheadStep(segment int64) int64 { return min(aheadMost, segment/8) }

func newAhead(file *os.File, segment int64) ahead {
	return ahead{file: file, step: aheadStep(segment), end: segment}
}

// write makes sure that half a step is there behind the used bytes, and returns
// how much it wrote. Where the
// disk is too full for it bbolt takes what it needs itself, and says so if that
// is not there either.
func (a *ahead) write(used int64) (written int64) {
	if a.file == nil {
		return 0
	}
	info, err := a.file.Stat()
	if err != nil {
		a.file = nil
		return 0
	}
	// The size as it is: a large commit has bbolt make the file longer, and
	// what stands there must not be touched.
	size := info.Size()
	if size-used >= a.step/2 || size >= a.end {
		return 0
	}
	n := min(a.step, a.end-size)
	if write(a.file, size, n) != nil {
		_ = a.file.Truncate(size) // as it was; bbolt will meet the same disk
		a.file = nil
		return 0
	}
	return n
}

// trim cuts off what is behind the used bytes.
func (a *ahead) trim(used int64) error {
	if a.file == nil {
		return nil
	}
	return a.file.Truncate(used)
}
