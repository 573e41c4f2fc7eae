package forward

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/proto/enroll"
	"plantmesh/proto/mesh"
	"plantmesh/proto/revision"
	"plantmesh/proto/subject"
)

// DialConfig is the one address the agent calls.
type DialConfig struct {
	URL  string // nats://, tls:// or wss://
	Road Road   // how it gets there
	Key  string // file of the agent's key
	// Token is the file of the hub's signed answer to it; empty: an open hub. Where the
	// hub's certificate authority stands in it, too, nobody else is called.
	Token string
	// CA is as hub.ca of edge.yaml; empty: the authority that stands in Token.
	CA    string
	Site  string
	Agent string
	// Ping and Timeout are as hub.ping and hub.timeout of edge.yaml; 0: the defaults.
	Ping, Timeout time.Duration
}

// Timeouts of the connection.
const (
	DefaultTimeout = 10 * time.Second // of a message: a stream that syncs each message answers in milliseconds
	connectWithin  = 5 * time.Second  // each step on the way: a call, the answer of a proxy, a handshake
	resumeTimeout  = 2 * time.Second
	resumeTries    = 5
	DefaultPing    = 15 * time.Second // a half open connection is noticed after two of them
	minReconnect   = 200 * time.Millisecond
	maxReconnect   = 10 * time.Second
)

// NATS is the Link over JetStream. Its places carry the stream's name, not its
// identity: an agent may not ask for that. The identity comes with receipts.
type NATS struct {
	cfg   DialConfig
	log   *slog.Logger
	nc    *nats.Conn
	js    jetstream.JetStream
	moved chan struct{} // the connection came or went
	asked chan time.Duration
	nudge chan struct{} // the hub wants to be asked for a configuration

	mu      sync.Mutex // protects what follows
	trouble string     // why the hub was not reached last; empty: it was
	refused bool       // because it does not take this agent's token
	nudged  bool       // nudges are heard
}

// Receiver is who hears of the connection. Safe for concurrent use.
type Receiver interface {
	Receive(receipt []byte) error
	Connected()
	Disconnected()
}

// Dial begins to connect, and gives up with ctx alone: a hub that is not there yet is no
// error. Close it; a connection that is there outlives ctx.
func Dial(ctx context.Context, cfg DialConfig, log *slog.Logger) (*NATS, error) {
	setDefault(&cfg.Ping, DefaultPing)
	setDefault(&cfg.Timeout, DefaultTimeout)
	n := &NATS{cfg: cfg, log: log, moved: make(chan struct{}, 1), asked: make(chan time.Duration, 1), nudge: make(chan struct{}, 1)}
	opts := []nats.Option{
		nats.Name("plantmesh-edge " + cfg.Agent),
		nats.CustomInboxPrefix(subject.Inbox(cfg.Agent)),
		nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true),
		nats.CustomReconnectDelay(func(tries int) time.Duration {
			return min(maxReconnect, minReconnect<<min(tries, 10)) + time.Duration(time.Now().UnixNano()%int64(minReconnect))
		}),
		nats.IgnoreAuthErrorAbort(), // a revoked agent keeps buffering and asking
		nats.ReconnectBufSize(-1),   // the log is the only buffer
		nats.PingInterval(cfg.Ping), nats.MaxPingsOutstanding(2), nats.Timeout(connectWithin),
		nats.ConnectHandler(func(*nats.Conn) { n.reached("connected") }),
		nats.ReconnectHandler(func(*nats.Conn) { n.reached("connected again") }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { n.move("lost", err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { n.unreached(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { n.erred(err) }),
	}
	as, err := cfg.as()
	if err != nil {
		return nil, err
	}
	opts = append(append(opts, as...), nats.SetCustomDialer(cfg.Road.dialer(ctx, connectWithin)), nats.SkipHostLookup())
	nc, err := nats.Connect(cfg.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to the hub at %s: %w", cfg.URL, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	n.nc, n.js = nc, js
	return n, nil
}

// as is who calls, and whom: the hub alone. Other addresses are not taken from an answer: the
// first comes before it is known who gives it.
func (cfg *DialConfig) as() (opts []nats.Option, err error) {
	opts = append(opts, nats.IgnoreDiscoveredServers())
	if cfg.Token != "" {
		opts = append(opts, nats.UserCredentials(cfg.Token, cfg.Key))
	}
	known, err := cfg.trusting()
	if err == nil && known != nil {
		opts = append(opts, nats.Secure(known.config()))
	}
	return opts, err
}

// Close ends the connection at once: what was not answered comes again.
func (n *NATS) Close() error {
	n.nc.Close()
	return nil
}

// Trouble is why the hub can't be reached, in words; empty while it is.
func (n *NATS) Trouble() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.trouble
}

func (n *NATS) reached(state string) {
	n.mu.Lock()
	n.trouble, n.refused = "", false
	n.mu.Unlock()
	n.move(state, nil)
}

// erred is told of what the server says: that it refuses this agent, at each try, and
// what it takes no message for.
func (n *NATS) erred(err error) {
	if isRefusal(err) {
		n.unreached(err)
		return
	}
	n.log.Warn("connection to the hub", "err", err)
}

// isRefusal says whether the hub answers, and does not take this agent's token.
func isRefusal(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked)
}

// unreached tells each reason once, however often it is tried.
func (n *NATS) unreached(err error) {
	why := reason(err)
	n.mu.Lock()
	same := why == n.trouble
	n.trouble, n.refused = why, isRefusal(err)
	n.mu.Unlock()
	if !same {
		n.log.Warn("the hub is not reached; everything is kept and sent later", "url", n.cfg.URL, "why", why)
	}
}

// reason says what a technician can do about it.
func reason(err error) string {
	var (
		dns   *net.DNSError
		proxy *ProxyError
	)
	switch {
	case err == nil:
		return "the connection was lost"
	case errors.As(err, &proxy):
		return fmt.Sprintf("%v: %s", proxy, proxy.Fix())
	case isRefusal(err):
		return fmt.Sprintf("the hub refuses this agent (%v): it asks at hub.enroll of edge.yaml for another token; where that is not set, enrol its key again at this hub and put the new token in place", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nobody listens there (%v): is the hub up, and hub.url right?", err)
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return fmt.Sprintf("who answers there is not the hub that let this agent in (%v): is hub.url right? If the hub was set up anew, enrol this agent again", err)
	case errors.As(err, new(tls.RecordHeaderError)), errors.Is(err, nats.ErrSecureConnWanted):
		return "who answers there does not protect the connection, and so is not the hub that let this agent in: is hub.url right?"
	case strings.Contains(err.Error(), "invalid websocket connection"): // the library has no error of its own for it
		return "who answers there opens no WebSocket: is hub.url right, the port and what stands behind it, and does nats.websocket of hub.yaml listen there?"
	case errors.As(err, &dns):
		return fmt.Sprintf("the name is not known here (%v): check hub.url and the gateway's DNS", err)
	}
	return err.Error()
}

// untakenError is why the hub took no message, in words.
type untakenError struct {
	words string
	cause error
}

func (e *untakenError) Error() string { return e.words }
func (e *untakenError) Unwrap() error { return e.cause }

// codeStoreFailed is the server's JSStreamStoreFailed.
const codeStoreFailed = 10077

// untaken says why the hub took no message, and that nothing is lost by it.
func untaken(err error, within time.Duration) string {
	const kept = "; everything is kept here and sent later"
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && api.ErrorCode == codeStoreFailed && strings.HasPrefix(api.Description, "maximum "):
		return "the hub's stream is full: it takes no more until the hub has stored what is in it" + kept
	case errors.As(err, &api) && api.ErrorCode == codeStoreFailed:
		return fmt.Sprintf("the hub can't store what is sent (%s)%s", api.Description, kept)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("the hub did not say within %s that it has stored a message: is the link cut, or is the hub's disk full or slow?%s", within, kept)
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return "the hub has no stream to take messages: it is just starting, or its stream was deleted" + kept
	}
	return err.Error()
}

func (n *NATS) move(state string, err error) {
	n.log.Info("connection to the hub", "state", state, "url", n.cfg.URL, "err", err)
	select {
	case n.moved <- struct{}{}:
	default:
	}
}

// Publish implements Link.
func (n *NATS) Publish(ctx context.Context, subj string, data []byte) (mesh.Place, error) {
	if m := n.nc.MaxPayload(); m > 0 && int64(len(data)) > m {
		return mesh.Place{}, mesh.Permanent(&SizeError{Bytes: int64(len(data)), Most: m})
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timeout)
	defer cancel()
	// No retry inside: it would reorder. No message id: its memory proves nothing.
	ack, err := n.js.PublishMsg(ctx, &nats.Msg{Subject: subj, Data: data}, jetstream.WithRetryAttempts(0))
	if err != nil {
		return mesh.Place{}, &untakenError{untaken(err, n.cfg.Timeout), err}
	}
	return mesh.Place{Stream: ack.Stream, Seq: ack.Sequence}, nil
}

// Run hands receipts and connections to f until ctx ends.
func (n *NATS) Run(ctx context.Context, f Receiver) error {
	sub, err := n.nc.Subscribe(subject.Receipt(n.cfg.Site, n.cfg.Agent), func(m *nats.Msg) { n.receive(f, m.Data) })
	if err != nil {
		return fmt.Errorf("listen for receipts: %w", err)
	}
	refresh, err := n.nc.Subscribe(subject.Refresh(n.cfg.Site, n.cfg.Agent), func(m *nats.Msg) { n.refresh(m.Data) })
	if err != nil {
		return fmt.Errorf("listen for the hub asking to renew: %w", err)
	}
	n.move("calling", nil)
	up, reconnects := false, uint64(0)
	for {
		select {
		case <-ctx.Done():
			if err := errors.Join(sub.Unsubscribe(), refresh.Unsubscribe()); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
				n.log.Debug("unsubscribe", "err", err)
			}
			return nil
		case <-n.moved:
		}
		is, times := n.nc.IsConnected(), n.nc.Stats().Reconnects
		if up && (!is || times != reconnects) {
			f.Disconnected()
			up = false
		}
		if is && !up {
			n.resume(ctx, f)
			f.Connected()
			up, reconnects = true, times
		}
	}
}

// resume asks for the hub's receipt, so that nothing it has is sent again. A
// hub that does not answer gets everything: its set decides.
func (n *NATS) resume(ctx context.Context, f Receiver) {
	for try := range resumeTries {
		m, err := n.ask(ctx)
		if err == nil {
			n.receive(f, m.Data)
			return
		}
		n.log.Info("the hub did not say what it has", "try", try+1, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(minReconnect << try):
		}
		if !n.nc.IsConnected() {
			return
		}
	}
}

func (n *NATS) ask(ctx context.Context) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, resumeTimeout)
	defer cancel()
	return n.nc.RequestWithContext(ctx, subject.Resume(n.cfg.Site, n.cfg.Agent), nil)
}

// Up reports whether there is a connection.
func (n *NATS) Up() bool { return n.nc.IsConnected() }

// Refused reports whether there is none because the hub does not take this agent's token.
func (n *NATS) Refused() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.refused
}

// Asked tells when the hub wants this agent's token renewed before that is due, and within
// what time.
func (n *NATS) Asked() <-chan time.Duration { return n.asked }

// maxRefresh bounds the time that the hub gives to renew in.
const maxRefresh = time.Minute

// refresh takes the time in milliseconds. A hub of another mind is asked at once.
func (n *NATS) refresh(data []byte) {
	ms, err := strconv.ParseInt(string(data), 10, 32)
	if err != nil || ms < 0 {
		ms = 0
	}
	select {
	case n.asked <- min(time.Duration(ms)*time.Millisecond, maxRefresh):
	default: // it is known
	}
}

// Renew asks the hub for a new token for this agent's key.
func (n *NATS) Renew(ctx context.Context) (a enroll.Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timeout)
	defer cancel()
	m, err := n.nc.RequestWithContext(ctx, subject.Renew(n.cfg.Site, n.cfg.Agent), nil)
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, context.DeadlineExceeded):
		return a, errors.New("the hub does not renew tokens: it is just starting, or older than this agent")
	case err != nil:
		return a, fmt.Errorf("ask the hub for a new token: %w", err)
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return a, fmt.Errorf("read the hub's new token: %w", err)
	}
	return a, nil
}

// Configuration asks the hub which configuration it wants of this agent. Once it has
// answered, its nudges are heard: an older hub lets nobody hear any.
func (n *NATS) Configuration(ctx context.Context, ask revision.Ask) (a revision.Answer, err error) {
	b, err := json.Marshal(ask)
	if err != nil {
		return a, fmt.Errorf("ask the hub for a configuration: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timeout)
	defer cancel()
	m, err := n.nc.RequestWithContext(ctx, subject.Configuration(n.cfg.Site, n.cfg.Agent), b)
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, context.DeadlineExceeded):
		return a, errors.New("the hub gives no configurations: it is just starting, or older than this agent")
	case err != nil:
		return a, fmt.Errorf("ask the hub for a configuration: %w", err)
	}
	if a, err = revision.ReadAnswer(m.Data); err != nil {
		return a, fmt.Errorf("read the hub's configuration: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.nudged {
		_, err = n.nc.Subscribe(subject.Nudge(n.cfg.Site, n.cfg.Agent), func(*nats.Msg) {
			select {
			case n.nudge <- struct{}{}:
			default:
			}
		})
		n.nudged = err == nil // without them it is asked each minute
	}
	return a, nil
}

// Nudged receives when the hub wants to be asked for a configuration.
func (n *NATS) Nudged() <-chan struct{} { return n.nudge }

// Report says how this agent is. One that does not arrive is not said again.
func (n *NATS) Report(b []byte) error {
	if err := n.nc.Publish(subject.Report(n.cfg.Site, n.cfg.Agent), b); err != nil {
		return fmt.Errorf("report to the hub: %w", err)
	}
	return nil
}

func (n *NATS) receive(f Receiver, data []byte) {
	if err := f.Receive(data); err != nil {
		n.log.Warn("receipt not taken", "err", err)
	}
}
