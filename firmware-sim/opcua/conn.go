package opcua

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uacp"
	"github.com/gopcua/opcua/uasc"
)

const (
	// chunk is the transport buffer, both ways (the least OPC 10000-6 §7.1.2.3
	// allows is 8,192 bytes).
	chunk = 65_535
	// maxMessage bounds a message, both ways; gopcua's clients take the
	// server's word for what they may receive.
	maxMessage = 16 << 20
	maxChunks  = 4_096
	// patience is how long a client may take to say hello, or to read what is
	// sent to it, in machine time.
	patience = 10 * time.Second
)

// conn is one TCP connection and its secure channel.
type conn struct {
	server  *Server
	tcp     *net.TCPConn
	channel *uasc.SecureChannel // set by serve before the first request
}

// hangUp closes the connection; serve notices.
func (c *conn) hangUp() {
	if err := c.tcp.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		c.server.log.Warn("connection not closed", "err", err)
	}
}

// serve answers one client until it or the server hangs up.
func (c *conn) serve(ctx context.Context) {
	defer c.server.bury(c)
	defer c.hangUp()
	if err := c.open(); err != nil {
		c.server.log.Warn("no secure channel", "remote", c.tcp.RemoteAddr().String(), "err", err)
		return
	}
	for {
		m, err := c.receive(ctx)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				c.server.log.Debug("connection ended", "remote", c.tcp.RemoteAddr().String(), "err", err)
			}
			return
		}
		req := m.Request()
		if req == nil {
			continue // the channel was opened or renewed
		}
		resp := c.answer(req, m.RequestID)
		if resp == nil {
			continue // a publish request: answered later
		}
		if err := c.send(ctx, m.RequestID, resp); err != nil {
			return
		}
	}
}

// open shakes hands (OPC 10000-6 §7.1.2) and makes the secure channel.
func (c *conn) open() error {
	if err := c.tcp.SetDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("bound the handshake: %w", err)
	}
	ack := &uacp.Acknowledge{ReceiveBufSize: chunk, SendBufSize: chunk, MaxMessageSize: maxMessage, MaxChunkCount: maxChunks}
	wire, err := uacp.NewConn(c.tcp, ack)
	if err != nil {
		return fmt.Errorf("shake hands: %w", err)
	}
	b, err := wire.Receive()
	if err != nil {
		return fmt.Errorf("shake hands: %w", err)
	}
	const header = 8 // type, chunk type, size
	hello := new(uacp.Hello)
	if string(b[:4]) != "HELF" {
		return fmt.Errorf("shake hands: %q came instead of hello", b[:4])
	}
	if _, err := hello.Decode(b[header:]); err != nil {
		return fmt.Errorf("shake hands: %w", err)
	}
	ack.SendBufSize = min(ack.SendBufSize, max(8_192, hello.ReceiveBufSize))
	if err := wire.Send("ACKF", ack); err != nil {
		return fmt.Errorf("shake hands: %w", err)
	}
	if err := c.tcp.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("end the handshake: %w", err)
	}
	cfg := &uasc.Config{SecurityPolicyURI: ua.SecurityPolicyURINone, SecurityMode: ua.MessageSecurityModeNone, Lifetime: uint32(time.Hour / time.Millisecond)}
	channelID, token := binary.LittleEndian.Uint32(secret(4))|1, binary.LittleEndian.Uint32(secret(4))|1
	c.channel, err = uasc.NewServerSecureChannel(c.server.url, wire, cfg, make(chan error, 1), channelID, 1, token)
	if err != nil {
		return fmt.Errorf("open a secure channel: %w", err)
	}
	return nil
}

// receive reads one message. gopcua's decoder panics on some malformed input:
// that ends the connection, not the plant.
func (c *conn) receive(ctx context.Context) (m *uasc.MessageBody, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("read a message: panic: %v", r)
		}
	}()
	m = c.channel.Receive(ctx)
	return m, m.Err
}

// send writes one response. A client that doesn't read is cut off.
func (c *conn) send(ctx context.Context, id uint32, resp ua.Response) error {
	err := c.tcp.SetWriteDeadline(time.Now().Add(patience))
	if err == nil {
		err = c.channel.SendResponseWithContext(ctx, id, resp)
	}
	if err != nil {
		c.hangUp()
		return fmt.Errorf("send a response: %w", err)
	}
	return nil
}

// answer serves one request; nil means later.
func (c *conn) answer(req ua.Request, id uint32) (resp ua.Response) {
	s := c.server
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("request panicked", "request", fmt.Sprintf("%T", req), "panic", r, "stack", string(debug.Stack()))
			resp = s.fault(req.Header(), ua.StatusBadInternalError)
		}
	}()
	switch q := req.(type) {
	case *ua.FindServersRequest:
		return s.findServers(q)
	case *ua.GetEndpointsRequest:
		return &ua.GetEndpointsResponse{ResponseHeader: s.header(q.RequestHeader, ua.StatusOK), Endpoints: s.endpoints()}
	case *ua.CreateSessionRequest:
		return s.createSession(c, q)
	case *ua.ActivateSessionRequest:
		return s.activateSession(c, q)
	case *ua.CloseSessionRequest:
		return s.closeSession(c, q)
	}
	if !s.alive(c, req.Header()) {
		return s.fault(req.Header(), ua.StatusBadSessionIDInvalid)
	}
	switch q := req.(type) {
	case *ua.BrowseRequest:
		return s.browse(q)
	case *ua.BrowseNextRequest:
		return s.browseNext(q)
	case *ua.TranslateBrowsePathsToNodeIDsRequest:
		return s.translate(q)
	case *ua.RegisterNodesRequest:
		return s.registerNodes(q)
	case *ua.UnregisterNodesRequest:
		return s.unregisterNodes(q)
	case *ua.ReadRequest:
		return s.read(q)
	case *ua.WriteRequest:
		return s.write(q)
	case *ua.HistoryReadRequest:
		return s.historyRead(q)
	}
	return s.deliver(req, id)
}

// deliver serves the requests of subscriptions.
func (s *Server) deliver(req ua.Request, id uint32) ua.Response {
	switch q := req.(type) {
	case *ua.CreateSubscriptionRequest:
		return s.createSubscription(q)
	case *ua.ModifySubscriptionRequest:
		return s.modifySubscription(q)
	case *ua.SetPublishingModeRequest:
		return s.setPublishingMode(q)
	case *ua.TransferSubscriptionsRequest:
		return s.transferSubscriptions(q)
	case *ua.DeleteSubscriptionsRequest:
		return s.deleteSubscriptions(q)
	case *ua.CreateMonitoredItemsRequest:
		return s.createItems(q)
	case *ua.ModifyMonitoredItemsRequest:
		return s.modifyItems(q)
	case *ua.SetMonitoringModeRequest:
		return s.setMonitoringMode(q)
	case *ua.DeleteMonitoredItemsRequest:
		return s.deleteItems(q)
	case *ua.PublishRequest:
		return s.takePublish(q, id)
	case *ua.RepublishRequest:
		return s.republish(q)
	}
	return s.fault(req.Header(), ua.StatusBadServiceUnsupported)
}
