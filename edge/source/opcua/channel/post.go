package channel

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/gopcua/opcua/ua"
)

// idPublishRequest is the type id of the request's binary encoding (OPC 10000-6,
// NodeIds.csv).
const idPublishRequest = 826

// PublishRequest is one publish request (OPC 10000-4 §5.14.5), encoded by hand: a
// reader sends one for every message it takes.
type PublishRequest struct {
	Token        []byte        // of the session, as Token gives it
	Timeout      time.Duration // a hint to the server; nothing ends here by it
	Subscription uint32        // of Acks
	Acks         []uint32      // messages that the server may forget
}

// Posted is the answer to a publish request. In goes back with Release.
type Posted struct {
	ID  uint32
	In  *Answer // nil with an error
	Err error   // as Call's
}

// Token is a session's authentication token as it is sent.
func Token(id *ua.NodeID) ([]byte, error) {
	if id == nil {
		id = ua.NewTwoByteNodeID(0)
	}
	b, err := ua.Encode(id)
	if err != nil {
		return nil, fmt.Errorf("encode the session's token: %w", err)
	}
	return b, nil
}

// Post sends a publish request and doesn't wait: what the server says goes to got,
// which must have room for the answers to all that was posted and not answered,
// else the channel is closed. What is not answered when the channel is closed
// never is.
func (c *Channel) Post(q *PublishRequest, got chan<- Posted) (id uint32, err error) {
	return c.dispatch(&waiter{kind: publishing, posted: got}, func(b []byte, id uint32) ([]byte, error) {
		b = q.append(b, id, time.Now())
		c.body = b
		return b, nil
	})
}

// append encodes the request (OPC 10000-6 §5.2; RequestHeader: OPC 10000-4 §7.32).
func (q *PublishRequest) append(b []byte, handle uint32, now time.Time) []byte {
	le := binary.LittleEndian
	b = append(b, 1, 0, idPublishRequest&0xFF, idPublishRequest>>8) // a four-byte node id of namespace 0
	b = append(b, q.Token...)
	b = le.AppendUint64(b, uint64(now.UnixNano()/100+from1601))
	b = le.AppendUint32(b, handle)
	b = le.AppendUint32(b, 0)                                  // diagnostics: none
	b = le.AppendUint32(b, 1<<32-1)                            // audit entry: null
	b = le.AppendUint32(b, uint32(q.Timeout/time.Millisecond)) // of the header
	b = append(b, 0, 0, 0)                                     // additional header: none
	b = le.AppendUint32(b, uint32(len(q.Acks)))
	for _, seq := range q.Acks {
		b = le.AppendUint32(b, q.Subscription)
		b = le.AppendUint32(b, seq)
	}
	return b
}

// from1601 is how many 100 ns lie between 1601 and 1970 (OPC 10000-6 §5.2.2.5).
const from1601 = 116_444_736_000_000_000
