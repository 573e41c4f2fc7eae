package bench

import (
	"context"
	"encoding/pem"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uasc"

	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/trust"
)

// encrypting is the closed loop of perf/opcua/srv with protection. That program
// switches None on and nothing else, and takes no certificate, so the library's server
// that it is made of stands here once more: each publish request is answered at once
// with the next of fifty messages that were encoded beforehand. It runs in this
// process, of which nothing is counted. Tokens live for an hour, as the reader asks:
// at a renewal the library's server changes keys under messages on their way.
func encrypting(t *testing.T, n int) (endpoint string, app opcua.Application) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no TCP address")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	endpoint = fmt.Sprintf("opc.tcp://127.0.0.1:%d", at.Port)
	own, app := acquainted(t, endpoint)
	s := server.New(
		server.EndPoint("127.0.0.1", at.Port), server.Certificate(own.DER), server.PrivateKey(own.Key), server.EnableAuthMode(ua.UserTokenTypeAnonymous),
		server.EnableSecurity("None", ua.MessageSecurityModeNone), // who asks for endpoints has no keys yet
		server.EnableSecurity("Basic256Sha256", ua.MessageSecurityModeSignAndEncrypt),
	)
	nodes := server.NewMapNamespace(s, "perf")
	for i := range n {
		nodes.Data[fmt.Sprintf("s%05d", i)] = 1.5 + float64(i)
	}
	f := &flood{asked: make(chan asked, 1000)}
	s.RegisterHandler(id.CreateMonitoredItemsRequest_Encoding_DefaultBinary, func(sc *uasc.SecureChannel, r ua.Request, id uint32) (ua.Response, error) {
		if req, ok := r.(*ua.CreateMonitoredItemsRequest); ok {
			f.watch(req)
		}
		return s.MonitoredItemService.CreateMonitoredItems(sc, r, id)
	})
	s.RegisterHandler(id.PublishRequest_Encoding_DefaultBinary, func(sc *uasc.SecureChannel, r ua.Request, id uint32) (ua.Response, error) {
		f.asked <- asked{sc, id, r.Header().RequestHandle}
		return nil, nil //nolint:nilnil // it is answered by the flood
	})
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var g sync.WaitGroup
	g.Go(func() { f.run(ctx, n) })
	t.Cleanup(func() {
		_ = s.Close() // nobody listens to it any more
		cancel()
		g.Wait()
	})
	return endpoint, app
}

// acquainted are the server's certificate, and the reader that trusts it.
func acquainted(t *testing.T, endpoint string) (own trust.Identity, app opcua.Application) {
	t.Helper()
	dir := t.TempDir()
	servers, err := trust.Open(filepath.Join(dir, "server"))
	if err != nil {
		t.Fatal(err)
	}
	if own, err = servers.Own("urn:perf:server", []string{"127.0.0.1"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "server.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.DER}), 0o600); err != nil {
		t.Fatal(err)
	}
	app = opcua.Application{Store: filepath.Join(dir, "reader"), URI: "urn:perf:reader", Hosts: []string{"localhost"}}
	readers, err := trust.Open(app.Store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readers.TrustFile(file, endpoint); err != nil {
		t.Fatal(err)
	}
	return own, app
}

// flood answers publish requests with changes of all items.
type flood struct {
	asked chan asked

	mu           sync.Mutex // protects the fields below
	handles      []uint32
	subscription uint32
}

// asked is a publish request.
type asked struct {
	sc     *uasc.SecureChannel
	id     uint32
	handle uint32
}

// encoded is a value that was encoded before.
type encoded []byte

func (e encoded) Encode() ([]byte, error) { return e, nil }

func (f *flood) watch(r *ua.CreateMonitoredItemsRequest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subscription = r.SubscriptionID
	for _, item := range r.ItemsToCreate {
		f.handles = append(f.handles, item.RequestedParameters.ClientHandle)
	}
}

// changes are fifty messages of slowly changing values of all n items; none before
// there are so many.
func (f *flood) changes(n int) (out []encoded, subscription uint32, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.handles) < n {
		return nil, 0, nil
	}
	for v := range 50 {
		now := time.Now()
		c := &ua.DataChangeNotification{DiagnosticInfos: []*ua.DiagnosticInfo{}}
		for k, handle := range f.handles {
			x := math.Round((20+float64(k%97)+5*math.Sin(float64(v)/8+float64(k)))*100) / 100
			value := &ua.DataValue{Value: ua.MustVariant(x), SourceTimestamp: now, ServerTimestamp: now}
			value.UpdateMask()
			c.MonitoredItems = append(c.MonitoredItems, &ua.MonitoredItemNotification{ClientHandle: handle, Value: value})
		}
		b, err := ua.Encode(c)
		if err != nil {
			return nil, 0, fmt.Errorf("encode a change: %w", err)
		}
		out = append(out, b)
	}
	return out, f.subscription, nil
}

// run answers until ctx ends. Requests from before all items were made wait.
func (f *flood) run(ctx context.Context, n int) {
	kind := ua.NewFourByteExpandedNodeID(0, id.DataChangeNotification_Encoding_DefaultBinary)
	var all []encoded
	var subscription uint32
	for seq := uint32(1); ; seq++ {
		var q asked
		select {
		case q = <-f.asked:
		case <-ctx.Done():
			return
		}
		for all == nil {
			var err error
			if all, subscription, err = f.changes(n); err != nil || ctx.Err() != nil {
				return
			}
			if all == nil {
				wait(10 * time.Millisecond)
			}
		}
		now := time.Now()
		r := &ua.PublishResponse{
			ResponseHeader:      &ua.ResponseHeader{Timestamp: now, RequestHandle: q.handle, ServiceDiagnostics: &ua.DiagnosticInfo{}, StringTable: []string{}, AdditionalHeader: ua.NewExtensionObject(nil)},
			SubscriptionID:      subscription,
			NotificationMessage: &ua.NotificationMessage{SequenceNumber: seq, PublishTime: now, NotificationData: []*ua.ExtensionObject{{EncodingMask: ua.ExtensionObjectBinary, TypeID: kind, Value: all[int(seq)%len(all)]}}},
			Results:             []ua.StatusCode{}, DiagnosticInfos: []*ua.DiagnosticInfo{}, AvailableSequenceNumbers: []uint32{},
		}
		if err := q.sc.SendResponseWithContext(ctx, q.id, r); err != nil {
			return // the reader has ended
		}
	}
}
