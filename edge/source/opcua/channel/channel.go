// Package channel is the client's side of an OPC UA secure channel (OPC 10000-6
// §6.7 and §7.1): one connection, its keys and their renewal, requests in chunks,
// and answers back to whoever asked. It knows no session.
//
// The library's own channel decodes every answer by reflection (its cost stands
// beside ours in publish's benchmarks), takes any sequence number, and doesn't look
// at whose certificate answers. Here publish responses go straight into values, in
// buffers that are used again.
package channel

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
	"golang.org/x/sync/errgroup"

	"plantmesh/edge/source/opcua/publish"
)

// Errors of a channel. What the server says of a request is a ua.StatusCode; a
// channel it ends is a *FaultError, which is none.
var (
	// ErrClosed: the connection is gone, or was closed here.
	ErrClosed = errors.New("the secure channel is closed")
	// ErrTimeout: no answer in time. The channel lives on.
	ErrTimeout = errors.New("the server gives no answer")
	// ErrProtocol: the server broke the protocol, or a limit; the channel is closed,
	// but for an answer that alone can't be read.
	ErrProtocol = errors.New("the server broke the protocol")
	// ErrHello: something listens there, and says nothing that a server would.
	ErrHello = errors.New("it does not say hello")
	// ErrSecurity: what came is not of the server that was asked for, or not as
	// protected as was asked for; the channel is closed.
	ErrSecurity = errors.New("the server failed a security check")
	// ErrTooLarge: a request is larger than the server takes.
	ErrTooLarge = errors.New("the request is larger than the server takes")
)

// FaultError is an ERR message (OPC 10000-6 §7.1.2.5): the server ends the connection.
type FaultError struct {
	Code   uint32
	Reason string // at most 4096 bytes
}

func (f *FaultError) Error() string {
	name := fmt.Sprintf("0x%08X", f.Code)
	if d, ok := ua.StatusCodes[ua.StatusCode(f.Code)]; ok {
		name = d.Name
	}
	return fmt.Sprintf("the server ends the connection: %s %s", name, f.Reason)
}

// Limits of what is taken from a server.
const (
	// chunkBytes is the largest chunk either side sends: the buffer sizes asked for.
	chunkBytes = 0xFFFF
	// leastChunk is the smallest buffer a server may have (OPC 10000-6 §7.1.2.4).
	leastChunk = 8192
	// maxMessage is the largest message: ten thousand values of a hundred bytes,
	// and then as much again.
	maxMessage = 16 << 20
	maxChunks  = 1024
	// maxWaiting bounds requests without an answer; a reader has some twenty.
	maxWaiting = 256
	// spareBuffers is how many buffers are kept for answers to come.
	spareBuffers = 4
	// spareWhole and spareValues are how large a buffer is kept: four messages of
	// the ten thousand values that are asked for, each of a hundred bytes.
	spareWhole  = 4 << 20
	spareValues = 40_000
)

// Config is what a channel is opened with.
type Config struct {
	Endpoint string // opc.tcp://host:port/path
	Policy   string // URI; empty: None
	Mode     ua.MessageSecurityMode
	Cert     []byte          // own, DER, and its issuers' behind it where there are any; with a policy other than None
	Key      *rsa.PrivateKey // of Cert
	Remote   []byte          // the server's certificate, DER, which the caller trusts

	DialTimeout time.Duration // until connected
	SendTimeout time.Duration // of one request into the socket
	Lifetime    time.Duration // of a token; it is renewed at three quarters (OPC 10000-4 §5.6.2.1)
}

// Channel is an open secure channel. Its methods are safe for concurrent use.
type Channel struct {
	cfg  Config
	conn net.Conn
	asym *uapolicy.EncryptionAlgorithm
	// What the server takes.
	chunk     int
	sendBytes uint32 // of one message; 0: it doesn't say
	sendParts uint32

	mu      sync.Mutex // protects all down to err
	waiting map[uint32]*waiter
	id      uint32 // of the channel
	sending keys
	taking  [2]keys // the newest, and the one before while it may be used
	nonce   []byte  // of the token asked for
	next    uint32  // request id
	err     error   // why it is closed

	writing sync.Mutex // held over the sending of a request's chunks; taken before mu
	seq     uint32     // of writing: of the last chunk sent
	out     []byte     // likewise, as are body and head
	body    []byte
	head    [tokenHead]byte

	free  chan *Answer
	done  chan struct{}
	heard atomic.Int64 // when bytes came last, unix nanoseconds

	in inbox // of the reading goroutine
}

// keys are those of one token.
type keys struct {
	token uint32
	algo  algorithm
	until time.Time
}

// waiter is one request without an answer.
type waiter struct {
	kind   kind
	got    chan reply    // of one
	posted chan<- Posted // in its place, of a publish request
}

type reply struct {
	resp ua.Response
	in   *Answer
	err  error
}

// kind is how an answer is decoded.
type kind uint8

const (
	service kind = iota
	publishing
	republishing
	reading
	opening
)

// Answer is what came of a publish or republish request. It belongs to whoever
// asked until Release.
type Answer struct {
	publish.Message

	chunk []byte // as read from the connection
	whole []byte // of a message in several chunks
}

// With opens a channel, has it used, and closes it. It returns what use returns,
// or why there is no channel, when nothing of the channel runs any more.
func With(ctx context.Context, cfg Config, use func(c *Channel) error) error {
	cfg.Policy = cmp.Or(cfg.Policy, ua.SecurityPolicyURINone)
	if (cfg.Policy == ua.SecurityPolicyURINone) != (cfg.Mode == ua.MessageSecurityModeNone) {
		return fmt.Errorf("%w: policy %s does not go with mode %s", ErrSecurity, cfg.Policy, cfg.Mode)
	}
	c := &Channel{
		cfg: cfg, waiting: map[uint32]*waiter{}, free: make(chan *Answer, spareBuffers), done: make(chan struct{}),
	}
	var err error
	if c.asym, err = cfg.asymmetric(); err != nil {
		return err
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	var g errgroup.Group
	g.Go(c.read)
	if err = c.token(ctx, ua.SecurityTokenRequestTypeIssue); err != nil {
		err = fmt.Errorf("open a secure channel: %w", err)
	} else {
		g.Go(func() error { return c.renew(ctx) })
		err = use(c)
	}
	c.Close()
	_ = g.Wait() // why it was closed, which is no news: Err tells it
	return err
}

func (cfg *Config) asymmetric() (*uapolicy.EncryptionAlgorithm, error) {
	var remote *rsa.PublicKey
	if cfg.Mode != ua.MessageSecurityModeNone {
		cert, err := x509.ParseCertificate(cfg.Remote)
		if err != nil {
			return nil, fmt.Errorf("%w: its certificate can't be read: %w", ErrSecurity, err)
		}
		key, ok := cert.PublicKey.(*rsa.PublicKey)
		if !ok || cfg.Key == nil {
			return nil, fmt.Errorf("%w: policy %s wants RSA keys on both sides", ErrSecurity, cfg.Policy)
		}
		remote = key
	}
	a, err := uapolicy.Asymmetric(cfg.Policy, cfg.Key, remote)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecurity, err)
	}
	return a, nil
}

// Call makes one request and waits for its answer. The error is the server's
// status where it gives one.
func (c *Channel) Call(ctx context.Context, token *ua.NodeID, timeout time.Duration, req ua.Request) (ua.Response, error) {
	r := c.ask(ctx, token, timeout, req, service)
	return r.resp, r.err
}

// Republish is Call for a republish request. The Answer goes back with Release.
func (c *Channel) Republish(ctx context.Context, token *ua.NodeID, timeout time.Duration, req *ua.RepublishRequest) (*Answer, error) {
	r := c.ask(ctx, token, timeout, req, republishing)
	return r.in, r.err
}

// Read is Call for a read request: its values come as those of a notification do.
// The Answer goes back with Release.
func (c *Channel) Read(ctx context.Context, token *ua.NodeID, timeout time.Duration, req *ua.ReadRequest) (*Answer, error) {
	r := c.ask(ctx, token, timeout, req, reading)
	return r.in, r.err
}

// Release gives an Answer's buffers back; nothing of it may be used afterwards.
// Those of an uncommonly large one are not kept.
func (c *Channel) Release(a *Answer) {
	if a == nil {
		return
	}
	if cap(a.whole) > spareWhole {
		a.whole = nil
	}
	if cap(a.Values) > spareValues || cap(a.Events) > spareValues {
		a.Message = publish.Message{}
	}
	select {
	case c.free <- a:
	default:
	}
}

// Heard is when bytes came last, of whatever answer; zero: none did.
func (c *Channel) Heard() time.Time {
	if n := c.heard.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// Done is closed with the channel.
func (c *Channel) Done() <-chan struct{} { return c.done }

// Err is why the channel is closed; nil while it is open.
func (c *Channel) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close drops the connection without a word: whatever lives at the server lives on.
func (c *Channel) Close() { c.close(ErrClosed) }

func (c *Channel) close(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if !errors.Is(why, ErrClosed) && !errors.Is(why, ErrProtocol) && !errors.Is(why, ErrSecurity) {
		why = fmt.Errorf("%w: %w", ErrClosed, why)
	}
	c.err = why
	_ = c.conn.Close() // it is given up; there is nobody to tell
	close(c.done)
}

func (c *Channel) ask(ctx context.Context, token *ua.NodeID, timeout time.Duration, req ua.Request, k kind) reply {
	w := &waiter{kind: k, got: make(chan reply, 1)}
	id, err := c.send(token, timeout, req, w)
	if err != nil {
		return reply{err: err}
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case r := <-w.got:
		return r
	case <-timer.C:
		err = fmt.Errorf("%w for %s to a %T", ErrTimeout, timeout, req)
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-c.done:
		err = c.Err()
	}
	c.mu.Lock()
	delete(c.waiting, id)
	c.mu.Unlock()
	select {
	case r := <-w.got: // it came meanwhile
		return r
	default:
		return reply{err: err}
	}
}

// token asks for a token, and waits until it counts.
func (c *Channel) token(ctx context.Context, t ua.SecurityTokenRequestType) error {
	nonce, err := c.asym.MakeNonce()
	if err != nil {
		return fmt.Errorf("draw a nonce: %w", err)
	}
	if len(nonce) == 0 {
		nonce = nil
	}
	c.mu.Lock()
	c.nonce = nonce
	c.mu.Unlock()
	return c.ask(ctx, nil, c.cfg.DialTimeout, &ua.OpenSecureChannelRequest{
		RequestType: t, SecurityMode: c.cfg.Mode, ClientNonce: nonce, RequestedLifetime: uint32(c.cfg.Lifetime / time.Millisecond),
	}, opening).err
}

// renew keeps the channel's token young.
func (c *Channel) renew(ctx context.Context) error {
	for {
		c.mu.Lock()
		left := time.Until(c.sending.until)
		c.mu.Unlock()
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-c.done:
			timer.Stop()
			return nil
		}
		if err := c.token(ctx, ua.SecurityTokenRequestTypeRenew); err != nil {
			c.close(fmt.Errorf("renew the token: %w", err))
			return err
		}
	}
}

// opened takes a token that the server gave.
func (c *Channel) opened(r *ua.OpenSecureChannelResponse) error {
	t := r.SecurityToken
	if t == nil {
		return fmt.Errorf("%w: it opened a channel without a token", ErrProtocol)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id != 0 && c.id != t.ChannelID {
		return fmt.Errorf("%w: channel %d became %d", ErrSecurity, c.id, t.ChannelID)
	}
	if n := c.asym.NonceLength(); len(r.ServerNonce) < n || n > 0 && bytes.Equal(r.ServerNonce, c.nonce) {
		return fmt.Errorf("%w: a nonce of %d bytes", ErrSecurity, len(r.ServerNonce))
	}
	algo, err := derive(c.cfg.Policy, c.nonce, r.ServerNonce)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSecurity, err)
	}
	life := time.Duration(r.SecurityToken.RevisedLifetime) * time.Millisecond
	life = max(leastLife, min(life, c.cfg.Lifetime))
	now := time.Now()
	c.id = t.ChannelID
	c.taking[1] = c.taking[0]
	// OPC 10000-4 §5.6.2.1: a server may use the one before until that ends; a quarter more for its clock.
	c.taking[0] = keys{token: t.TokenID, algo: algo, until: now.Add(life * 5 / 4)}
	c.sending = keys{token: t.TokenID, algo: algo, until: now.Add(life * 3 / 4)}
	return nil
}

// leastLife is the shortest life of a token that is believed: renewed at three
// quarters of it, a channel costs two signatures every three seconds.
const leastLife = 4 * time.Second

// Sign signs parts, one after the other, with the own key.
func (c *Channel) Sign(parts ...[]byte) (*ua.SignatureData, error) {
	if c.cfg.Mode == ua.MessageSecurityModeNone {
		return &ua.SignatureData{}, nil
	}
	sig, err := c.asym.Signature(bytes.Join(parts, nil))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return &ua.SignatureData{Algorithm: c.asym.SignatureURI(), Signature: sig}, nil
}

// Verify checks the server's signature of parts, one after the other.
func (c *Channel) Verify(sig *ua.SignatureData, parts ...[]byte) error {
	if c.cfg.Mode == ua.MessageSecurityModeNone {
		return nil
	}
	if sig == nil {
		return fmt.Errorf("%w: it gives no signature", ErrSecurity)
	}
	if err := c.asym.VerifySignature(bytes.Join(parts, nil), sig.Signature); err != nil {
		return fmt.Errorf("%w: its signature is wrong: %w", ErrSecurity, err)
	}
	return nil
}
