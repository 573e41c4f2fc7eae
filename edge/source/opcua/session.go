package opcua

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/trust"
)

// Times of a connection, in machine time.
const (
	dialTimeout = 3 * time.Second
	callTimeout = 10 * time.Second
	// channelLife is the lifetime of a security token; the library renews it
	// at three quarters (OPC 10000-4 §5.6.2.1).
	channelLife = time.Hour
	// maxToken is the longest token of a session, in bytes: servers draw 32 or so.
	maxToken = 4096
	// mostMute is how often in a row a session is asked for without an answer, or answers
	// nothing behind that, on a channel that was opened, before another one is tried: a
	// link may have broken then. A subscription has as many tries.
	mostMute = 3
)

// appURI names this client. With a certificate it must be the one in there.
const appURI = "urn:plantmesh:edge"

// errLost means the connection is gone; session and subscription may live on.
var errLost = errors.New("the connection to the server is lost")

// errMute means that the server took the login and has said nothing since.
var errMute = errors.New("nothing came behind the login")

// session is an OPC UA session that outlives its connection: detach drops the
// transport only, resume goes on with the same session on a new one. The
// library's own client closes the session instead and loses what waits there.
type session struct {
	endpoint string
	life     time.Duration
	patience time.Duration // with an answer; 0: callTimeout
	security Security
	app      Application
	log      *slog.Logger

	ch    *channel.Channel
	token *ua.NodeID // authentication token; nil: no session
	mute  int        // how often in a row it was asked for without an answer, or was mute behind that
	owns  bool       // the subscription is this session's
	asked bool       // and was asked for, with or without an answer
	user  string     // policy id of the anonymous token, where the connection is insecure

	// Of a protected connection.
	offer  *ua.EndpointDescription
	own    trust.Identity
	remote []byte // the server's certificate, without its issuers'
	nonce  []byte // the server's newest
}

// on opens a connection with a secure channel, each time to whom the server then
// is (it may have another certificate since), and has it used.
func (s *session) on(ctx context.Context, use func() error) error {
	cfg := channel.Config{Endpoint: s.endpoint, Mode: s.security.mode(), DialTimeout: dialTimeout, SendTimeout: callTimeout, Lifetime: channelLife}
	if !s.security.Insecure {
		if err := s.discover(ctx); err != nil {
			return err
		}
		cert, err := leaf(s.offer.ServerCertificate)
		if err != nil {
			return err
		}
		cfg.Policy, cfg.Cert, cfg.Key, cfg.Remote = s.offer.SecurityPolicyURI, s.own.DER, s.own.Key, cert
		s.remote = cert
	}
	return channel.With(ctx, cfg, func(ch *channel.Channel) error {
		s.ch = ch
		defer func() { s.ch = nil }()
		return use()
	})
}

// open makes a new session on a new connection, and has it used. Until there is one
// the session before is not forgotten: a server that gives neither may know it later.
func (s *session) open(ctx context.Context, name string, use func() error) error {
	return s.on(ctx, func() error {
		user, nonce := s.user, s.nonce
		if err := s.create(ctx, name); err != nil {
			s.user, s.nonce = user, nonce
			return err
		}
		return s.hears(use)
	})
}

// hears has an activated session used, and tells one on which the server answers
// nothing. Bytes of whatever answer are a sign of life.
func (s *session) hears(use func() error) error {
	ch := s.ch
	before := ch.Heard()
	err := use()
	if !errors.Is(err, channel.ErrTimeout) || !ch.Heard().Equal(before) {
		s.mute = 0
		return err
	}
	return fmt.Errorf("%w: %w", errMute, err)
}

func (s *session) create(ctx context.Context, name string) error {
	nonce := make([]byte, 32)
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("draw a nonce: %w", err)
	}
	r, err := callAs[*ua.CreateSessionResponse](ctx, s.ch, nil, &ua.CreateSessionRequest{
		ClientDescription: &ua.ApplicationDescription{
			ApplicationURI: cmp.Or(s.app.URI, appURI), ProductURI: appURI, ApplicationName: ua.NewLocalizedText("plantmesh"), ApplicationType: ua.ApplicationTypeClient,
		},
		EndpointURL: s.endpoint, SessionName: name, ClientNonce: nonce, ClientCertificate: s.own.DER,
		RequestedSessionTimeout: float64(s.life / time.Millisecond),
	})
	if err != nil {
		return fmt.Errorf("create a session: %w", err)
	}
	if err := s.proven(r, nonce); err != nil {
		return fmt.Errorf("create a session: %w", err)
	}
	s.user, s.nonce = anonymous(r.ServerEndpoints), r.ServerNonce
	token := r.AuthenticationToken
	b, err := channel.Token(token)
	if err != nil {
		return err
	}
	if len(b) > maxToken { // it goes with each request
		return fmt.Errorf("create a session: %w: a session token of %d bytes", channel.ErrProtocol, len(b))
	}
	req, err := s.activation()
	if err != nil {
		return err
	}
	if err := s.activate(ctx, token, req); err != nil {
		return err
	}
	s.token, s.mute, s.owns, s.asked = token, 0, false, false
	return nil
}

// resume moves the session to a new connection, and has it used. known is false
// where the server gives it no more: it refuses, or has opened a channel mostMute times
// in a row and then not answered, to the activation or to all that came behind it.
func (s *session) resume(ctx context.Context, use func() error) (known bool, err error) {
	known = true
	err = s.on(ctx, func() error {
		req, err := s.activation()
		if err != nil {
			return err
		}
		s.mute++
		err = s.activate(ctx, s.token, req)
		if err == nil {
			err = s.hears(use)
			known = s.mute < mostMute
			return err
		}
		_, refused := refusal(err)
		if refused {
			s.token, s.mute = nil, 0
		}
		known = !refused && s.mute < mostMute
		return err
	})
	return known, err
}

// anonymous is the policy id under which the server's plain endpoint takes
// clients without a name. Ids differ from endpoint to endpoint.
func anonymous(endpoints []*ua.EndpointDescription) string {
	id := ""
	for _, e := range endpoints {
		if e == nil || e.SecurityPolicyURI != ua.SecurityPolicyURINone {
			continue
		}
		for _, t := range e.UserIdentityTokens {
			if t != nil && t.TokenType == ua.UserTokenTypeAnonymous {
				id = cmp.Or(id, t.PolicyID)
			}
		}
	}
	return cmp.Or(id, "Anonymous")
}

// activation is the request that makes a session this connection's.
func (s *session) activation() (*ua.ActivateSessionRequest, error) {
	login, proof, err := s.login()
	if err != nil {
		return nil, err
	}
	sig, err := s.ch.Sign(s.remote, s.nonce)
	if err != nil {
		return nil, err
	}
	return &ua.ActivateSessionRequest{ClientSignature: sig, UserIdentityToken: ua.NewExtensionObject(login), UserTokenSignature: proof}, nil
}

func (s *session) activate(ctx context.Context, token *ua.NodeID, req *ua.ActivateSessionRequest) error {
	r, err := callIn[*ua.ActivateSessionResponse](ctx, s.ch, token, s.wait(), req)
	if err != nil {
		return fmt.Errorf("activate the session: %w", err)
	}
	s.nonce = r.ServerNonce
	return nil
}

// detach drops the transport without a word: session, subscription and queues
// stay with the server. CloseSession would throw them away.
func (s *session) detach() {
	if s.ch != nil {
		s.ch.Close()
	}
}

// wait is how long an answer may take.
func (s *session) wait() time.Duration { return cmp.Or(s.patience, callTimeout) }

// call makes one request within the session.
func call[T ua.Response](ctx context.Context, s *session, req ua.Request) (T, error) {
	return callIn[T](ctx, s.ch, s.token, s.wait(), req)
}

func callAs[T ua.Response](ctx context.Context, ch *channel.Channel, token *ua.NodeID, req ua.Request) (T, error) {
	return callIn[T](ctx, ch, token, callTimeout, req)
}

func callIn[T ua.Response](ctx context.Context, ch *channel.Channel, token *ua.NodeID, timeout time.Duration, req ua.Request) (out T, err error) {
	if ch == nil {
		return out, errLost
	}
	v, err := ch.Call(ctx, token, timeout, req)
	if err != nil {
		return out, err
	}
	r, ok := v.(T)
	if !ok {
		return out, fmt.Errorf("the server answered %T with %T", req, v)
	}
	return r, nil
}

// republish asks for a message again.
func (s *session) republish(ctx context.Context, subscription, seq uint32) (*channel.Answer, error) {
	if s.ch == nil {
		return nil, errLost
	}
	return s.ch.Republish(ctx, s.token, s.wait(), &ua.RepublishRequest{SubscriptionID: subscription, RetransmitSequenceNumber: seq})
}

// refusal is the status code with which the server refused a request; ok is
// false where it gave no answer.
func refusal(err error) (code ua.StatusCode, ok bool) {
	return code, errors.As(err, &code)
}

// namespaces reads the server's namespace array; at is the server's clock.
func (s *session) namespaces(ctx context.Context) (uris []string, at time.Time, err error) {
	r, err := call[*ua.ReadResponse](ctx, s, &ua.ReadRequest{
		TimestampsToReturn: ua.TimestampsToReturnNeither,
		NodesToRead: []*ua.ReadValueID{{
			NodeID: ua.NewNumericNodeID(0, id.Server_NamespaceArray), AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{},
		}},
	})
	if err != nil {
		return nil, at, fmt.Errorf("read the namespaces: %w", err)
	}
	if len(r.Results) != 1 || r.Results[0].Value == nil {
		return nil, at, errors.New("the server gives no namespaces")
	}
	ns, ok := r.Results[0].Value.Value().([]string)
	if !ok {
		return nil, at, errors.New("the server's namespaces are no list of texts")
	}
	return ns, r.ResponseHeader.Timestamp, nil
}
