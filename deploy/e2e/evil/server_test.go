package evil

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// attack is what the server does otherwise than a good one. The zero attack is good.
type attack struct {
	hello func(c *conn)                                   // instead of the answer to a hello
	open  func(c *conn, req uint32)                       // instead of the answer to an open request
	on    func(c *conn, req uint32, what ua.Request) bool // reports whether it has answered, or left, a request
}

// server speaks OPC UA without protection, good or evil. It forgets its sessions
// with the connection. Each publish request is answered with one value.
type server struct {
	t *testing.T
	l net.Listener

	mu    sync.Mutex
	now   attack
	conns map[net.Conn]bool
	calls int // connections so far
}

func newServer(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, l: l, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { l.Close(); s.become(attack{}) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = true
			s.calls++
			now := s.now
			s.mu.Unlock()
			go func() {
				(&conn{Conn: c, server: s, attack: now, next: 1, done: make(chan struct{})}).serve()
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
			}()
		}
	}()
	return s
}

func (s *server) url() string { return "opc.tcp://" + s.l.Addr().String() }

// become changes what it is, and drops who is connected.
func (s *server) become(a attack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = a
	for c := range s.conns {
		c.Close()
	}
}

func (s *server) called() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// conn is one connection.
type conn struct {
	net.Conn
	*server
	attack

	wmu     sync.Mutex
	seq     uint32   // of chunks
	next    uint32   // notification message
	items   []uint32 // client handles
	created bool     // a session
	done    chan struct{}
}

const channelID, tokenID, subscriptionID = 7, 1, 4711

func (c *conn) serve() {
	defer c.Close()
	defer close(c.done)
	if kind, _, err := c.read(); err != nil || kind != "HELF" {
		return
	}
	if c.hello != nil {
		c.hello(c)
		_, _ = io.Copy(io.Discard, c.Conn)
		return
	}
	c.send(numbers("ACKF", 0, 65535, 65535, 0, 0))
	for {
		kind, b, err := c.read()
		if err != nil || len(b) < 24 {
			return
		}
		if kind == "OPNF" {
			c.opened(b)
			continue
		}
		req := binary.LittleEndian.Uint32(b[20:])
		_, what, err := ua.DecodeService(b[24:])
		if err != nil {
			c.t.Errorf("a request that can't be read: %v", err)
			return
		}
		r, ok := what.(ua.Request)
		if !ok {
			c.t.Errorf("a %T is no request", what)
			return
		}
		if c.on == nil || !c.on(c, req, r) {
			c.answer(req, c.good(req, r))
		}
	}
}

// read reads one chunk.
func (c *conn) read() (kind string, b []byte, err error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(c.Conn, head); err != nil {
		return "", nil, err
	}
	n := binary.LittleEndian.Uint32(head[4:])
	if n < 8 || n > 65535 {
		return "", nil, fmt.Errorf("a chunk of %d bytes", n)
	}
	b = make([]byte, n)
	copy(b, head)
	_, err = io.ReadFull(c.Conn, b[8:])
	return string(head[:4]), b, err
}

func (c *conn) opened(b []byte) {
	at := 12
	for range 3 {
		if n := int32(binary.LittleEndian.Uint32(b[at:])); n > 0 {
			at += int(n)
		}
		at += 4
	}
	req := binary.LittleEndian.Uint32(b[at+4:])
	if c.open != nil {
		c.open(c, req)
		return
	}
	c.grant(req, channelID, tokenID, 3_600_000)
}

// grant answers an open request.
func (c *conn) grant(req, channel, token, life uint32) {
	body := encoded(&ua.OpenSecureChannelResponse{
		ResponseHeader: header(0), SecurityToken: &ua.ChannelSecurityToken{ChannelID: channel, TokenID: token, RevisedLifetime: life, CreatedAt: time.Now()},
	})
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.seq++
	c.send(chunk("OPNF", channel, security(), c.seq, req, body))
}

// security is the head of a chunk that opens a channel without protection.
func security() []byte {
	b := text(nil, ua.SecurityPolicyURINone)
	return append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
}

// send writes bytes as they are. Who doesn't take them is gone.
func (c *conn) send(b []byte) bool {
	_, err := c.Write(b)
	return err == nil
}

// part sends one chunk of a message.
func (c *conn) part(mark string, req uint32, body []byte) bool {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.seq++
	return c.send(chunk("MSG"+mark, channelID, u32(nil, tokenID), c.seq, req, body))
}

// message sends a body in as many chunks as it takes.
func (c *conn) message(req uint32, body []byte) bool {
	for len(body) > 60_000 {
		if !c.part("C", req, body[:60_000]) {
			return false
		}
		body = body[60_000:]
	}
	return c.part("F", req, body)
}

func (c *conn) answer(req uint32, r ua.Response) {
	if r != nil {
		c.message(req, encoded(r))
	}
}

// good is what a good server answers; nil: nothing, or later.
func (c *conn) good(req uint32, what ua.Request) ua.Response {
	h := header(0)
	switch r := what.(type) {
	case *ua.CreateSessionRequest:
		c.created = true
		return &ua.CreateSessionResponse{ResponseHeader: h, SessionID: ua.NewNumericNodeID(1, 1), AuthenticationToken: ua.NewNumericNodeID(1, 2), ServerSignature: &ua.SignatureData{}}
	case *ua.ActivateSessionRequest:
		if !c.created {
			return fault(ua.StatusBadSessionIDInvalid)
		}
		return &ua.ActivateSessionResponse{ResponseHeader: h}
	case *ua.ReadRequest:
		a := &ua.ReadResponse{ResponseHeader: h}
		for _, n := range r.NodesToRead {
			a.Results = append(a.Results, c.value(n))
		}
		return a
	case *ua.TranslateBrowsePathsToNodeIDsRequest:
		a := &ua.TranslateBrowsePathsToNodeIDsResponse{ResponseHeader: h}
		for _, path := range r.BrowsePaths {
			if path.StartingNode.Namespace() != 0 { // properties of a node
				a.Results = append(a.Results, &ua.BrowsePathResult{StatusCode: ua.StatusBadNoMatch})
				continue
			}
			a.Results = append(a.Results, &ua.BrowsePathResult{Targets: []*ua.BrowsePathTarget{{TargetID: ua.NewExpandedNodeID(ua.NewStringNodeID(1, "found"), "", 0), RemainingPathIndex: 0xffffffff}}})
		}
		return a
	case *ua.CreateSubscriptionRequest:
		return &ua.CreateSubscriptionResponse{ResponseHeader: h, SubscriptionID: subscriptionID, RevisedPublishingInterval: r.RequestedPublishingInterval, RevisedLifetimeCount: r.RequestedLifetimeCount, RevisedMaxKeepAliveCount: r.RequestedMaxKeepAliveCount}
	case *ua.CreateMonitoredItemsRequest:
		a := &ua.CreateMonitoredItemsResponse{ResponseHeader: h}
		for i, item := range r.ItemsToCreate {
			c.items = append(c.items, item.RequestedParameters.ClientHandle)
			a.Results = append(a.Results, &ua.MonitoredItemCreateResult{MonitoredItemID: uint32(i + 1), RevisedQueueSize: item.RequestedParameters.QueueSize, FilterResult: ua.NewExtensionObject(nil)})
		}
		return a
	case *ua.DeleteSubscriptionsRequest:
		return &ua.DeleteSubscriptionsResponse{ResponseHeader: h, Results: []ua.StatusCode{ua.StatusOK}}
	case *ua.PublishRequest:
		c.later(req, func() []byte {
			return c.notification(c.handle(0), variant(ua.TypeIDDouble, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f))
		})
		return nil
	}
	return fault(ua.StatusBadServiceUnsupported)
}

func (c *conn) handle(i int) uint32 {
	if i < len(c.items) {
		return c.items[i]
	}
	return 0
}

// later answers a publish request after a publishing interval.
func (c *conn) later(req uint32, body func() []byte) {
	go func() {
		select {
		case <-time.After(20 * time.Millisecond):
			c.message(req, body())
		case <-c.done:
		}
	}()
}

func (c *conn) value(n *ua.ReadValueID) *ua.DataValue {
	if n.NodeID.Namespace() == 0 && n.NodeID.IntID() == id.Server_NamespaceArray {
		return &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant([]string{"http://opcfoundation.org/UA/", "urn:evil"})}
	}
	if n.NodeID.Namespace() != 0 && n.AttributeID == ua.AttributeIDDataType {
		return &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant(ua.NewTwoByteNodeID(id.BaseDataType))}
	}
	status := ua.StatusBadNodeIDUnknown
	if n.NodeID.Namespace() != 0 {
		status = ua.StatusBadAttributeIDInvalid
	}
	return &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: status}
}

// notification is a PublishResponse of one value, given by its DataValue.
func (c *conn) notification(handle uint32, value []byte) []byte {
	return c.notifications(u32(nil, 1), append(u32(nil, handle), value...))
}

// notifications is one of any items, given by their count and their bytes.
func (c *conn) notifications(count, items []byte) []byte {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.next++
	change := append(append(append([]byte{}, count...), items...), 0xff, 0xff, 0xff, 0xff)
	object := append(u32([]byte{1, 0, id.DataChangeNotification_Encoding_DefaultBinary & 0xff, id.DataChangeNotification_Encoding_DefaultBinary >> 8, 1}, uint32(len(change))), change...)
	return published(subscriptionID, c.next-1, time.Now(), append(u32(nil, 1), object...))
}
