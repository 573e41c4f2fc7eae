package channel

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"

	"plantmesh/edge/source/opcua/measure"
)

// Type ids of answers that are told apart (OPC 10000-6 §5.2.2.9, NodeIds.csv).
const (
	idPublishResponse   = 829
	idRepublishResponse = 835
	idReadResponse      = 634
)

// inbox is what the reading goroutine keeps.
type inbox struct {
	r       *bufio.Reader
	seq     uint32 // of the chunk before; counted from the first on
	begun   bool
	now     *Answer           // whose chunk is read into
	parts   map[uint32]*parts // messages of which not all chunks came
	pending int               // bytes in those
}

// parts are the chunks of one message so far.
type parts struct {
	b []byte
	n int
}

// tap notes when bytes came.
type tap struct {
	r  io.Reader
	at *atomic.Int64
}

func (t *tap) Read(b []byte) (int, error) {
	n, err := t.r.Read(b)
	if n > 0 {
		t.at.Store(time.Now().UnixNano())
	}
	return n, err
}

func newInbox(r io.Reader) inbox {
	return inbox{r: bufio.NewReaderSize(r, 2*chunkBytes), parts: map[uint32]*parts{}}
}

// read takes what the server sends until the connection ends. What makes it panic, in
// here or in the library's cryptography, ends the connection and is told.
func (c *Channel) read() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: a message that can't be read: %v", ErrProtocol, p)
			c.close(err)
		}
	}()
	c.in = newInbox(&tap{c.conn, &c.heard})
	for {
		if err := c.chunkIn(); err != nil {
			c.close(err)
			return err
		}
	}
}

// chunkIn reads one chunk, and gives its message on where it is complete.
func (c *Channel) chunkIn() error {
	in := &c.in
	if in.now == nil {
		in.now = c.buffer()
	}
	b, err := in.raw(in.now.chunk)
	if err != nil {
		return err
	}
	if string(b[:3]) == "ERR" {
		return fault(b)
	}
	body, id, err := c.unseal(b)
	if err != nil {
		return err
	}
	c.mu.Lock()
	w := c.waiting[id]
	c.mu.Unlock()
	if string(b[:3]) == "OPN" && (w == nil || w.kind != opening) {
		return fmt.Errorf("%w: it opens a channel that nobody asked for", ErrProtocol)
	}
	switch b[3] {
	case 'A':
		in.drop(id)
		if len(body) >= 4 {
			c.give(id, reply{err: fmt.Errorf("the server gave an answer up: %w", ua.StatusCode(binary.LittleEndian.Uint32(body)))})
		}
		return nil
	case 'C':
		if w == nil { // nobody waits any more
			in.drop(id)
			return nil
		}
		return in.keep(id, body)
	case 'F':
	default:
		return fmt.Errorf("%w: a chunk of kind %q", ErrProtocol, b[3])
	}
	if p := in.parts[id]; p != nil {
		if err := in.keep(id, body); err != nil {
			return err
		}
		in.drop(id)
		body, in.now.whole = p.b, p.b
	}
	if w == nil {
		return nil
	}
	return c.answer(id, w, body)
}

// buffer is one that is free, or a new one.
func (c *Channel) buffer() *Answer {
	select {
	case a := <-c.free:
		return a
	default:
		return &Answer{chunk: make([]byte, chunkBytes)}
	}
}

// raw reads one chunk.
func (in *inbox) raw(into []byte) ([]byte, error) {
	const head = 8
	if _, err := io.ReadFull(in.r, into[:head]); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	n := binary.LittleEndian.Uint32(into[4:])
	switch kind := string(into[:3]); {
	case kind != "MSG" && kind != "OPN" && kind != "ERR" && kind != "CLO":
		return nil, fmt.Errorf("%w: a message of type %q", ErrProtocol, kind)
	case n > uint32(len(into)):
		return nil, fmt.Errorf("%w: a chunk of %d bytes, at most %d are agreed", ErrProtocol, n, len(into))
	case n < 2*head:
		return nil, fmt.Errorf("%w: a chunk of %d bytes", ErrProtocol, n)
	case kind == "CLO":
		return nil, fmt.Errorf("%w: by the server", ErrClosed)
	}
	if _, err := io.ReadFull(in.r, into[head:n]); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return into[:n], nil
}

func fault(b []byte) error {
	f := &FaultError{Code: binary.LittleEndian.Uint32(b[8:])}
	if n := binary.LittleEndian.Uint32(b[12:]); n < 1<<31 {
		f.Reason = string(bytes.ToValidUTF8(b[16:min(len(b), 16+int(min(n, 4096)))], []byte("?")))
	}
	return f
}

// keep puts a chunk of a message aside until its others came.
func (in *inbox) keep(id uint32, body []byte) error {
	p := in.parts[id]
	if p == nil {
		p = &parts{b: in.now.whole[:0]}
		in.now.whole = nil
		in.parts[id] = p
	}
	p.n++
	in.pending += len(body)
	if p.n > maxChunks || in.pending > maxMessage {
		return fmt.Errorf("%w: a message of more than %d chunks or %d bytes", ErrProtocol, maxChunks, maxMessage)
	}
	p.b = append(p.b, body...)
	return nil
}

// drop forgets what was put aside of a message; its bytes stay with who has them.
func (in *inbox) drop(id uint32) {
	if p := in.parts[id]; p != nil {
		in.pending -= len(p.b)
		delete(in.parts, id)
	}
}

// unseal checks and decrypts a chunk in place. It gives the body's part behind
// the sequence header.
func (c *Channel) unseal(b []byte) (body []byte, id uint32, err error) {
	if len(b) < messageHead+tokenHead {
		return nil, 0, fmt.Errorf("%w: a chunk of %d bytes", ErrProtocol, len(b))
	}
	head, algo, asym := messageHead+tokenHead, algorithm(c.asym), string(b[:3]) == "OPN"
	if asym {
		head, err = c.sender(b)
	} else {
		algo, err = c.keysOf(binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:]))
	}
	if err != nil {
		return nil, 0, err
	}
	p := b[head:]
	if c.cfg.Mode != ua.MessageSecurityModeNone {
		if p, err = unlock(b, head, algo, asym || c.cfg.Mode == ua.MessageSecurityModeSignAndEncrypt); err != nil {
			return nil, 0, err
		}
	}
	if len(p) < sequenceHead {
		return nil, 0, fmt.Errorf("%w: a chunk without a sequence header", ErrProtocol)
	}
	if err := c.in.follow(binary.LittleEndian.Uint32(p)); err != nil {
		return nil, 0, err
	}
	return p[sequenceHead:], binary.LittleEndian.Uint32(p[4:]), nil
}

// follow demands that no chunk is missing, doubled or put in by another (OPC
// 10000-6 §6.7.2.4).
func (in *inbox) follow(seq uint32) error {
	wrapped := in.seq >= lastSequence && seq < 1024
	if in.begun && seq != in.seq+1 && !wrapped {
		return fmt.Errorf("%w: chunk %d came after chunk %d", ErrSecurity, seq, in.seq)
	}
	in.begun, in.seq = true, seq
	return nil
}

// keysOf are those of a token of this channel.
func (c *Channel) keysOf(channel, token uint32) (algorithm, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if channel != c.id {
		return nil, fmt.Errorf("%w: a message of channel %d, this one is %d", ErrSecurity, channel, c.id)
	}
	for _, k := range c.taking {
		if k.algo == nil || k.token != token {
			continue
		}
		if time.Now().Before(k.until) {
			return k.algo, nil
		}
	}
	return nil, fmt.Errorf("%w: a message with token %d, which is none of this channel's or has ended", ErrSecurity, token)
}

// sender checks who sent an OPN chunk, and gives the length of its heads.
func (c *Channel) sender(b []byte) (head int, err error) {
	rest := b[messageHead:]
	var fields [3][]byte // policy, the sender's certificate, the receiver's thumbprint
	for i := range fields {
		if len(rest) < 4 {
			return 0, fmt.Errorf("%w: a security header that ends early", ErrProtocol)
		}
		n := int32(binary.LittleEndian.Uint32(rest))
		rest = rest[4:]
		if n <= 0 {
			continue
		}
		if int(n) > len(rest) {
			return 0, fmt.Errorf("%w: a security header that ends early", ErrProtocol)
		}
		fields[i], rest = rest[:n], rest[n:]
	}
	switch {
	case string(fields[0]) != c.cfg.Policy:
		return 0, fmt.Errorf("%w: it answers with policy %.100q, asked for was %q", ErrSecurity, fields[0], c.cfg.Policy)
	case c.cfg.Mode == ua.MessageSecurityModeNone:
	case !bytes.HasPrefix(fields[1], c.cfg.Remote): // a chain may follow its own
		return 0, fmt.Errorf("%w: it answers with another certificate than the one that is trusted", ErrSecurity)
	case !bytes.Equal(fields[2], uapolicy.Thumbprint(c.cfg.Cert)):
		return 0, fmt.Errorf("%w: what it says is meant for another client", ErrSecurity)
	}
	return len(b) - len(rest), nil
}

var errLength = errors.New("its lengths don't fit")

// unlock decrypts a chunk in place, checks its signature, and takes the padding off.
func unlock(b []byte, head int, algo algorithm, encrypted bool) ([]byte, error) {
	p := b[head:]
	if encrypted {
		if len(p) == 0 || len(p)%ownBlock(algo) != 0 {
			return nil, fmt.Errorf("%w: a chunk that can't be decrypted: %w", ErrSecurity, errLength)
		}
		plain, err := algo.Decrypt(p)
		if err != nil || len(plain) > len(p) {
			return nil, fmt.Errorf("%w: a chunk that can't be decrypted: %w", ErrSecurity, errors.Join(err, errLength))
		}
		if len(plain) > 0 && &plain[0] != &p[0] {
			copy(p, plain)
		}
		p = p[:len(plain)]
	}
	signed := algo.RemoteSignatureLength()
	if len(p) < sequenceHead+signed {
		return nil, fmt.Errorf("%w: a chunk without a signature", ErrSecurity)
	}
	end := head + len(p) - signed
	if err := algo.VerifySignature(b[:end], b[end:end+signed]); err != nil {
		return nil, fmt.Errorf("%w: a signature is wrong: %w", ErrSecurity, err)
	}
	p = b[head:end]
	if !encrypted {
		return p, nil
	}
	wide := padBytes(ownKey(algo))
	if len(p) < sequenceHead+wide {
		return nil, fmt.Errorf("%w: padding: %w", ErrSecurity, errLength)
	}
	pad := int(p[len(p)-wide])
	if wide == 2 {
		pad |= int(p[len(p)-1]) << 8
	}
	if len(p) < sequenceHead+wide+pad {
		return nil, fmt.Errorf("%w: padding: %w", ErrSecurity, errLength)
	}
	return p[:len(p)-wide-pad], nil
}

// ownKey is what tells how wide the length of the padding is: the receiver's
// asymmetric key, whose signatures are as long; of symmetric keys less than 256.
func ownKey(algo algorithm) int { return algo.SignatureLength() }

// ownBlock is what encrypted chunks to this side are a multiple of.
func ownBlock(algo algorithm) int {
	if n := algo.NonceLength(); n > 0 { // asymmetric: the own key's length
		return algo.SignatureLength()
	}
	return algo.BlockSize()
}

// answer decodes a message and gives it to who asked.
func (c *Channel) answer(id uint32, w *waiter, body []byte) error {
	kind, rest, ok := typeID(body)
	if !ok {
		return fmt.Errorf("%w: an answer without a type", ErrProtocol)
	}
	a := c.in.now
	switch {
	case w.kind == publishing && kind == idPublishResponse:
		c.notify(id, a, a.DecodePublish(rest))
		return nil
	case w.kind == republishing && kind == idRepublishResponse:
		c.notify(id, a, a.DecodeRepublish(rest))
		return nil
	case w.kind == reading && kind == idReadResponse:
		c.notify(id, a, a.DecodeRead(rest))
		return nil
	}
	r, err := c.serve(w.kind, body)
	if err != nil {
		return err
	}
	c.give(id, r)
	return nil
}

// serve decodes what is no notification. The error ends the channel.
func (c *Channel) serve(k kind, body []byte) (reply, error) {
	// The library's values alias what they are decoded from.
	resp, err := decode(bytes.Clone(body))
	if err != nil {
		return reply{err: fmt.Errorf("%w: %w", ErrProtocol, err)}, nil
	}
	if code := uint32(resp.Header().ServiceResult); code&bad != 0 {
		return reply{err: ua.StatusCode(code)}, nil
	}
	switch k {
	case opening:
		r, ok := resp.(*ua.OpenSecureChannelResponse)
		if !ok {
			return reply{}, fmt.Errorf("%w: it opens a channel with a %T", ErrProtocol, resp)
		}
		return reply{resp: resp}, c.opened(r)
	case publishing, republishing, reading:
		return reply{err: fmt.Errorf("%w: a %T for a notification", ErrProtocol, resp)}, nil
	case service:
	}
	return reply{resp: resp}, nil
}

// bad is the severity bit of a StatusCode (OPC 10000-4 §7.39).
const bad = uint32(1 << 31)

// notify gives a decoded notification on, with the buffer it stands in.
func (c *Channel) notify(id uint32, a *Answer, err error) {
	switch {
	case err != nil:
		c.give(id, reply{err: fmt.Errorf("%w: %w", ErrProtocol, err)})
	case a.Result&bad != 0:
		c.give(id, reply{err: ua.StatusCode(a.Result)})
	default:
		c.in.now = nil
		c.give(id, reply{in: a})
	}
}

// give hands an answer to whoever waits; nobody may any more.
func (c *Channel) give(id uint32, r reply) {
	c.mu.Lock()
	w := c.waiting[id]
	delete(c.waiting, id)
	c.mu.Unlock()
	switch {
	case w == nil:
		c.Release(r.in)
	case w.posted != nil:
		select {
		case w.posted <- Posted{ID: id, In: r.in, Err: r.err}:
		default: // see Post
			c.Release(r.in)
			c.close(fmt.Errorf("%w: an answer to a publish request that nobody has room for", ErrProtocol))
		}
	default:
		w.got <- r // of one, and given once
	}
}

// typeID is the number of the node id of namespace 0 that every message begins with.
func typeID(b []byte) (id uint32, rest []byte, ok bool) {
	switch {
	case len(b) >= 2 && b[0] == 0:
		return uint32(b[1]), b[2:], true
	case len(b) >= 4 && b[0] == 1 && b[1] == 0:
		return uint32(binary.LittleEndian.Uint16(b[2:])), b[4:], true
	case len(b) >= 7 && b[0] == 2 && b[1] == 0 && b[2] == 0:
		return binary.LittleEndian.Uint32(b[3:]), b[7:], true
	}
	return 0, nil, false
}

// decode is the library's, of what was measured before. What makes it panic ends
// the answer, not the program.
func decode(b []byte) (resp ua.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, fmt.Errorf("an answer that can't be read: %v", p)
		}
	}()
	if err := measure.Answer(b); err != nil {
		return nil, fmt.Errorf("an answer that can't be read: %w", err)
	}
	_, v, err := ua.DecodeService(b)
	if err != nil {
		return nil, fmt.Errorf("an answer that can't be read: %w", err)
	}
	resp, ok := v.(ua.Response)
	if !ok || resp.Header() == nil {
		return nil, fmt.Errorf("a %T is no answer", v)
	}
	return resp, nil
}
