package opcua

import (
	"errors"
	"fmt"

	"plantmesh/edge/source/opcua/channel"
)

// spoilt is a message that can't be read, and how often it was asked for.
type spoilt struct {
	seq   uint32
	tries int
	said  string // of the gap, once it was given up
}

// mostSpoilt is how often a message is asked for that can't be read: it may have
// been spoilt on its way.
const mostSpoilt = 3

// notRepeated says what it means that a message was asked for again and did not
// come. One that can't be read, however often, ends the subscription: what was in
// it is said to be missing, and everything behind it goes on.
func (r *Reader) notRepeated(seq uint32, err error) error {
	if !errors.Is(err, channel.ErrProtocol) { // one that can't be read, or is too large: then the channel closes
		return fmt.Errorf("republish %d: %w", seq, err)
	}
	if r.spoilt.seq != seq {
		r.spoilt = spoilt{seq: seq}
	}
	if r.spoilt.tries++; r.spoilt.tries < mostSpoilt {
		return fmt.Errorf("republish %d: %w", seq, err)
	}
	r.spoilt = spoilt{said: fmt.Sprintf("message %d of the server's can't be read: %v", seq, err)}
	return fmt.Errorf("%w: message %d can't be read: %w", errGone, seq, err)
}
