package channel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
)

const (
	// messageHead: type 3, F C or A, size 4, channel 4 (OPC 10000-6 §6.7.2.2).
	messageHead = 12
	tokenHead   = 4 // of a symmetric chunk
	// sequenceHead: sequence number 4, request id 4 (§6.7.2.4).
	sequenceHead = 8
	// lastSequence is the highest sequence number; the next is below 1024 (§6.7.2.4).
	lastSequence = math.MaxUint32 - 1024
)

// send encodes a request and writes its chunks. Where it returns nil the waiter
// gets the answer.
func (c *Channel) send(token *ua.NodeID, timeout time.Duration, req ua.Request, w *waiter) (id uint32, err error) {
	if token == nil {
		token = ua.NewTwoByteNodeID(0)
	}
	return c.dispatch(w, func(_ []byte, id uint32) ([]byte, error) {
		req.SetHeader(&ua.RequestHeader{
			AuthenticationToken: token, Timestamp: time.Now(), RequestHandle: id, TimeoutHint: uint32(timeout / time.Millisecond),
			AdditionalHeader: ua.NewExtensionObject(nil),
		})
		return encode(req)
	})
}

// dispatch gives a request its id, has its body made (in the room it gives, or
// elsewhere) and writes its chunks.
func (c *Channel) dispatch(w *waiter, encode func(room []byte, id uint32) ([]byte, error)) (id uint32, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if id, err = c.await(w); err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			c.mu.Lock()
			delete(c.waiting, id)
			c.mu.Unlock()
		}
	}()
	body, err := encode(c.body[:0], id)
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	k, channel := c.sending, c.id
	c.mu.Unlock()
	f := framer{kind: "MSG", channel: channel, algo: k.algo, sign: c.cfg.Mode != ua.MessageSecurityModeNone, encrypt: c.cfg.Mode == ua.MessageSecurityModeSignAndEncrypt}
	if w.kind == opening {
		f.kind, f.algo, f.encrypt = "OPN", c.asym, f.sign
		f.security = c.asymmetricHead()
	} else {
		f.security = binary.LittleEndian.AppendUint32(c.head[:0], k.token)
	}
	room := f.room(c.chunk)
	parts := max(1, (len(body)+room-1)/room)
	if c.sendBytes > 0 && len(body) > int(c.sendBytes) || c.sendParts > 0 && parts > int(c.sendParts) {
		return 0, fmt.Errorf("%w: %d bytes in %d chunks, it takes %d in %d", ErrTooLarge, len(body), parts, c.sendBytes, c.sendParts)
	}
	if w.kind == opening && parts > 1 {
		return 0, fmt.Errorf("%w: an open request must fit one chunk, and its certificate has %d bytes", ErrTooLarge, len(c.cfg.Cert))
	}
	return id, c.write(&f, id, body, room, parts)
}

// await gives a request its id, and its waiter a place.
func (c *Channel) await(w *waiter) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if len(c.waiting) >= maxWaiting {
		return 0, fmt.Errorf("%w to %d requests", ErrTimeout, len(c.waiting))
	}
	c.next++
	if c.next == 0 {
		c.next++
	}
	c.waiting[c.next] = w
	return c.next, nil
}

// write sends the chunks of one message. A connection that has part of one is of
// no use any more.
func (c *Channel) write(f *framer, id uint32, body []byte, room, parts int) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.cfg.SendTimeout)); err != nil {
		return c.failed(err)
	}
	for i := range parts {
		piece := body[i*room : min(len(body), (i+1)*room)]
		c.seq++
		if c.seq > lastSequence {
			c.seq = 1
		}
		var err error
		if c.out, err = f.frame(c.out[:0], i == parts-1, c.seq, id, piece); err != nil {
			return c.failed(err)
		}
		if _, err := c.conn.Write(c.out); err != nil {
			return c.failed(err)
		}
	}
	return nil
}

// failed closes the channel for what went wrong while sending.
func (c *Channel) failed(err error) error {
	c.close(fmt.Errorf("send: %w", err))
	return c.Err()
}

func encode(req ua.Request) ([]byte, error) {
	b, err := ua.Encode(req)
	if err != nil {
		return nil, fmt.Errorf("encode a %T: %w", req, err)
	}
	id := ua.ServiceTypeID(req)
	if id == 0 {
		return nil, fmt.Errorf("a %T has no type id", req)
	}
	return append([]byte{1, 0, byte(id), byte(id >> 8)}, b...), nil // a four-byte node id of namespace 0
}

// asymmetricHead is the security header of OPN (OPC 10000-6 §6.7.2.3).
func (c *Channel) asymmetricHead() []byte {
	b := appendBytes(nil, []byte(c.cfg.Policy))
	if c.cfg.Mode == ua.MessageSecurityModeNone {
		return appendBytes(appendBytes(b, nil), nil)
	}
	return appendBytes(appendBytes(b, c.cfg.Cert), uapolicy.Thumbprint(c.cfg.Remote))
}

// appendBytes appends a byte string; nil is null.
func appendBytes(to, b []byte) []byte {
	n := int32(len(b))
	if b == nil {
		n = -1
	}
	return append(binary.LittleEndian.AppendUint32(to, uint32(n)), b...)
}

// framer makes chunks of one message.
type framer struct {
	kind          string // MSG or OPN
	channel       uint32
	security      []byte // the security header
	algo          algorithm
	sign, encrypt bool
}

func (f *framer) head() int { return messageHead + len(f.security) }

// padBytes is how many bytes tell the length of the padding: two where the
// receiver's key is longer than 2048 bits (OPC 10000-6 §6.7.2.5).
func padBytes(keyBytes int) int {
	if keyBytes > 256 {
		return 2
	}
	return 1
}

// room is how many bytes of a body fit a chunk.
func (f *framer) room(chunk int) int {
	n := chunk - f.head()
	if f.encrypt {
		n = n/f.algo.BlockSize()*f.algo.PlaintextBlockSize() - padBytes(f.algo.BlockSize())
	}
	if f.sign {
		n -= f.algo.SignatureLength()
	}
	return n - sequenceHead
}

// frame appends one chunk.
func (f *framer) frame(b []byte, final bool, seq, id uint32, piece []byte) ([]byte, error) {
	b = append(b, f.kind...)
	mark := byte('C')
	if final {
		mark = 'F'
	}
	b = append(b, mark, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, f.channel)
	b = append(b, f.security...)
	head := f.head()
	b = binary.LittleEndian.AppendUint32(b, seq)
	b = binary.LittleEndian.AppendUint32(b, id)
	b = append(b, piece...)
	size, signed := len(b), 0
	if f.sign {
		signed = f.algo.SignatureLength()
		size += signed
	}
	if f.encrypt {
		plain, wide := f.algo.PlaintextBlockSize(), padBytes(f.algo.BlockSize())
		pad := (plain - (size-head+wide)%plain) % plain
		for range pad + 1 {
			b = append(b, byte(pad))
		}
		if wide == 2 {
			b = append(b, byte(pad>>8))
		}
		size = head + (len(b)-head+signed)/plain*f.algo.BlockSize()
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(size))
	if f.sign {
		sig, err := f.algo.Signature(b)
		if err != nil {
			return nil, fmt.Errorf("sign a chunk: %w", err)
		}
		if len(sig) != signed {
			return nil, errors.New("sign a chunk: the signature has another length")
		}
		b = append(b, sig...)
	}
	if f.encrypt {
		sealed, err := f.algo.Encrypt(b[head:])
		if err != nil {
			return nil, fmt.Errorf("encrypt a chunk: %w", err)
		}
		b = append(b[:head], sealed...)
	}
	if len(b) != size {
		return nil, fmt.Errorf("a chunk of %d bytes came out with %d", size, len(b))
	}
	return b, nil
}
