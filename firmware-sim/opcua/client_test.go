package opcua

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uacp"
	"github.com/gopcua/opcua/uasc"
	"golang.org/x/sync/errgroup"

	"plantmesh/firmware-sim/plant"
)

var day = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// rig is a served source and its ledger.
type rig struct {
	*Server

	t *testing.T

	mu   sync.Mutex
	told map[uint64]int
	next uint64
}

func open(t *testing.T, cfg Config, names ...string) *rig {
	t.Helper()
	r := &rig{t: t, told: map[uint64]int{}}
	cfg.Source, cfg.Listen = "src", "127.0.0.1:0"
	var sigs []plant.Signal
	for _, n := range names {
		sig := plant.Signal{Source: "src", Name: n, Type: plant.Double}
		switch role(n) {
		case "state", "produced", "energy_kj":
			sig.Type = plant.Int
		case "temperature":
			sig.Unit = "CEL"
		case "order":
			sig.Type = plant.String
		case "blocked":
			sig.Type = plant.Bool
		}
		sigs = append(sigs, sig)
	}
	s, err := serve(cfg, sigs, zero(), func(_ string, indexes []uint64) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, i := range indexes {
			r.told[i]++
		}
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// push emits one value ms milliseconds after the day began and proves it.
func (r *rig) push(name string, ms int, v float64) {
	r.next++
	at := day.Add(time.Duration(ms) * time.Millisecond)
	val := plant.Value{Type: plant.Double, F: v}
	if r.nodes[name].signal.Type == plant.Int {
		val = plant.Value{Type: plant.Int, I: int64(v)}
	}
	r.Push(plant.Emission{Source: "src", Index: r.next, Signal: name, Time: at, Emitted: at, Value: val})
}

func (r *rig) prove(ms int) { r.Prove(day.Add(time.Duration(ms) * time.Millisecond)) }

// receivedAll says whether every emission so far was told exactly once.
func (r *rig) receivedAll() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := uint64(1); i <= r.next; i++ {
		if r.told[i] != 1 {
			return fmt.Errorf("emission %d of %d was told %d times", i, r.next, r.told[i])
		}
	}
	return nil
}

// client is one connection with a session.
type client struct {
	t     *testing.T
	conn  *uacp.Conn
	sc    *uasc.SecureChannel
	token *ua.NodeID

	broken chan error // the channel's dispatcher reports here
}

func dial(t *testing.T, url string) *client {
	t.Helper()
	c, err := tryDial(t, url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryDial(t *testing.T, url string) (*client, error) {
	t.Helper()
	conn, err := (&uacp.Dialer{Dialer: &net.Dialer{Timeout: 3 * time.Second}}).Dial(t.Context(), url)
	if err != nil {
		return nil, err
	}
	cfg := &uasc.Config{SecurityPolicyURI: ua.SecurityPolicyURINone, SecurityMode: ua.MessageSecurityModeNone, Lifetime: 3_600_000, RequestTimeout: 10 * time.Second}
	c := &client{t: t, conn: conn, broken: make(chan error, 32)}
	t.Cleanup(c.cut)
	if c.sc, err = uasc.NewSecureChannel(url, conn, cfg, c.broken); err != nil {
		return nil, err
	}
	return c, c.sc.Open(t.Context())
}

func connect(t *testing.T, url string) *client {
	t.Helper()
	c, err := tryConnect(t, url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryConnect(t *testing.T, url string) (*client, error) {
	t.Helper()
	return tryConnectFor(t, url, 60_000)
}

// tryConnectFor asks for a session that lives so many milliseconds unheard.
func tryConnectFor(t *testing.T, url string, timeout float64) (*client, error) {
	t.Helper()
	c, err := tryDial(t, url)
	if err != nil {
		return nil, err
	}
	r, err := call[*ua.CreateSessionResponse](c, &ua.CreateSessionRequest{
		ClientDescription: &ua.ApplicationDescription{ApplicationURI: "urn:test", ApplicationName: ua.NewLocalizedText("test"), ApplicationType: ua.ApplicationTypeClient},
		EndpointURL:       url, SessionName: "test", ClientNonce: secret(32), RequestedSessionTimeout: timeout,
	})
	if err != nil {
		return nil, err
	}
	c.token = r.AuthenticationToken
	return c, c.activate()
}

func (c *client) activate() error {
	_, err := call[*ua.ActivateSessionResponse](c, &ua.ActivateSessionRequest{
		ClientSignature: &ua.SignatureData{}, UserIdentityToken: ua.NewExtensionObject(&ua.AnonymousIdentityToken{PolicyID: "anonymous"}), UserTokenSignature: &ua.SignatureData{},
	})
	return err
}

// cut ends the connection without a word.
func (c *client) cut() {
	if err := c.conn.Close(); err != nil {
		return // cut before
	}
	if c.sc != nil {
		_ = c.sc.Close() // it can't say goodbye any more
	}
}

// call waits for its answer, or until the connection breaks.
func call[T ua.Response](c *client, req ua.Request) (out T, err error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case err := <-c.broken:
			if errors.Is(err, io.EOF) || !isAnswer(err) {
				c.broken <- err // for the next call, too
				cancel(err)
			}
		case <-done:
		}
	}()
	err = c.sc.SendRequestWithTimeout(ctx, req, c.token, 10*time.Second, func(v ua.Response) error {
		r, ok := v.(T)
		if !ok {
			return fmt.Errorf("unexpected %T", v)
		}
		out = r
		return nil
	})
	return out, err
}

// isAnswer says whether the dispatcher reported a bad service result, which
// breaks nothing.
func isAnswer(err error) bool {
	var code ua.StatusCode
	return errors.As(err, &code)
}

func must[T ua.Response](c *client, req ua.Request) T {
	c.t.Helper()
	out, err := call[T](c, req)
	if err != nil {
		c.t.Fatalf("%T: %v", req, err)
	}
	return out
}

func (c *client) subscribe(size uint32, names ...string) uint32 {
	c.t.Helper()
	sub := must[*ua.CreateSubscriptionResponse](c, &ua.CreateSubscriptionRequest{RequestedPublishingInterval: 10, RequestedLifetimeCount: 3000, RequestedMaxKeepAliveCount: 2, PublishingEnabled: true})
	c.monitor(sub.SubscriptionID, size, names...)
	return sub.SubscriptionID
}

func (c *client) monitor(sub, size uint32, names ...string) []*ua.MonitoredItemCreateResult {
	c.t.Helper()
	req := &ua.CreateMonitoredItemsRequest{SubscriptionID: sub, TimestampsToReturn: ua.TimestampsToReturnBoth}
	for i, n := range names {
		req.ItemsToCreate = append(req.ItemsToCreate, &ua.MonitoredItemCreateRequest{
			ItemToMonitor:       &ua.ReadValueID{NodeID: text(n), AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{}},
			MonitoringMode:      ua.MonitoringModeReporting,
			RequestedParameters: &ua.MonitoringParameters{ClientHandle: uint32(i), QueueSize: size, DiscardOldest: true, Filter: ua.NewExtensionObject(nil)},
		})
	}
	r := must[*ua.CreateMonitoredItemsResponse](c, req)
	for _, x := range r.Results {
		if x.StatusCode != ua.StatusOK {
			c.t.Fatalf("create a monitored item: %v", x.StatusCode)
		}
	}
	return r.Results
}

func (c *client) publish(acks ...*ua.SubscriptionAcknowledgement) (*ua.PublishResponse, error) {
	return call[*ua.PublishResponse](c, &ua.PublishRequest{SubscriptionAcknowledgements: acks})
}

func values(t *testing.T, m *ua.NotificationMessage) []*ua.MonitoredItemNotification {
	t.Helper()
	var out []*ua.MonitoredItemNotification
	for _, d := range m.NotificationData {
		n, ok := d.Value.(*ua.DataChangeNotification)
		if !ok {
			t.Fatalf("notification %T", d.Value)
		}
		out = append(out, n.MonitoredItems...)
	}
	return out
}

func ack(sub, seq uint32) *ua.SubscriptionAcknowledgement {
	return &ua.SubscriptionAcknowledgement{SubscriptionID: sub, SequenceNumber: seq}
}

// drain publishes until nothing more is announced and proof reached ms, and
// gives the values in order. Everything is acknowledged.
func (c *client) drain(sub uint32, ms int) (got []*ua.MonitoredItemNotification) {
	c.t.Helper()
	var acks []*ua.SubscriptionAcknowledgement
	for {
		r, err := c.publish(acks...)
		if err != nil {
			c.t.Fatal(err)
		}
		acks = nil
		v := values(c.t, r.NotificationMessage)
		if len(v) > 0 {
			acks = append(acks, ack(sub, r.NotificationMessage.SequenceNumber))
		}
		got = append(got, v...)
		if len(v) == 0 && !r.MoreNotifications && !r.NotificationMessage.PublishTime.Before(day.Add(time.Duration(ms)*time.Millisecond)) {
			return got
		}
	}
}

func floats(notes []*ua.MonitoredItemNotification) (out []float64) {
	for _, n := range notes {
		out = append(out, n.Value.Value.Float())
	}
	return out
}

func isStatus(err error, code ua.StatusCode) bool {
	var got ua.StatusCode
	return errors.As(err, &got) && got == code
}

func count(from, to int) (out []float64) {
	for i := from; i <= to; i++ {
		out = append(out, float64(i))
	}
	return out
}

func equal(t *testing.T, got, want []float64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %d values %v\nwant %d %v", len(got), head(got), len(want), head(want))
	}
}

func head(v []float64) []float64 { return v[:min(20, len(v))] }
