package opcua

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uacp"
	"github.com/gopcua/opcua/uasc"
)

// Times of a connection, in machine time.
const (
	dialTimeout = 3 * time.Second
	openTimeout = 5 * time.Second // from dialling to an open channel
	callTimeout = 10 * time.Second
	// channelLife is the lifetime of a security token; the library renews it
	// at three quarters (OPC 10000-4 §5.6.2.1).
	channelLife = time.Hour
)

// Largest message taken from a server, for the acknowledge of OPC 10000-6
// §7.1.2.4: ten thousand values of a hundred bytes, and then as much again.
const (
	maxMessage = 16 << 20
	maxChunks  = 1024
	bufferSize = 0xFFFF
)

// appURI names this client. With a certificate it must be the one in there.
const appURI = "urn:plantmesh:edge"

// errLost means the connection is gone; session and subscription may live on.
var errLost = errors.New("the connection to the server is lost")

// session is an OPC UA session that outlives its connection: detach drops the
// transport only, reattach goes on with the same session on a new one. The
// library's own client closes the session instead and loses what waits there.
type session struct {
	endpoint string
	life     time.Duration

	conn  *uacp.Conn
	sc    *uasc.SecureChannel
	errs  chan error
	token *ua.NodeID // authentication token; nil: no session
	user  string     // policy id of the anonymous token
	cert  []byte     // of the server, where it sends one
	nonce []byte
}

// dial opens a connection and a secure channel on it.
func (s *session) dial(ctx context.Context) error {
	d := uacp.Dialer{
		Dialer:    &net.Dialer{Timeout: dialTimeout, KeepAlive: 10 * time.Second},
		ClientACK: &uacp.Acknowledge{ReceiveBufSize: bufferSize, SendBufSize: bufferSize, MaxChunkCount: maxChunks, MaxMessageSize: maxMessage},
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	conn, err := d.Dial(ctx, s.endpoint)
	if err != nil {
		return fmt.Errorf("dial %s: %w", s.endpoint, err)
	}
	errs := make(chan error, 32)
	sc, err := uasc.NewSecureChannel(s.endpoint, conn, &uasc.Config{
		SecurityPolicyURI: ua.SecurityPolicyURINone, SecurityMode: ua.MessageSecurityModeNone,
		Lifetime: uint32(channelLife / time.Millisecond), RequestTimeout: callTimeout,
	}, errs)
	if err == nil {
		err = sc.Open(ctx)
	}
	if err != nil {
		err = fmt.Errorf("open a secure channel: %w", err)
		if cerr := conn.Close(); cerr != nil && !errors.Is(cerr, io.EOF) {
			err = errors.Join(err, cerr)
		}
		return err
	}
	s.conn, s.sc, s.errs = conn, sc, errs
	return nil
}

// open makes a new session on a new connection.
func (s *session) open(ctx context.Context, name string) error {
	s.token = nil
	if err := s.dial(ctx); err != nil {
		return err
	}
	nonce := make([]byte, 32)
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("draw a nonce: %w", err)
	}
	r, err := callAs[*ua.CreateSessionResponse](ctx, s.sc, nil, callTimeout, &ua.CreateSessionRequest{
		ClientDescription: &ua.ApplicationDescription{
			ApplicationURI: appURI, ProductURI: appURI, ApplicationName: ua.NewLocalizedText("plantmesh"), ApplicationType: ua.ApplicationTypeClient,
		},
		EndpointURL: s.endpoint, SessionName: name, ClientNonce: nonce,
		RequestedSessionTimeout: float64(s.life / time.Millisecond),
	})
	if err != nil {
		return fmt.Errorf("create a session: %w", err)
	}
	s.cert, s.nonce = r.ServerCertificate, r.ServerNonce
	s.user = anonymous(r.ServerEndpoints)
	token := r.AuthenticationToken
	if err := s.activate(ctx, token); err != nil {
		return err
	}
	s.token = token
	return nil
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

func (s *session) activate(ctx context.Context, token *ua.NodeID) error {
	sig, alg, err := s.sc.NewSessionSignature(s.cert, s.nonce)
	if err != nil {
		return fmt.Errorf("sign the session: %w", err)
	}
	r, err := callAs[*ua.ActivateSessionResponse](ctx, s.sc, token, callTimeout, &ua.ActivateSessionRequest{
		ClientSignature:    &ua.SignatureData{Algorithm: alg, Signature: sig},
		UserIdentityToken:  ua.NewExtensionObject(&ua.AnonymousIdentityToken{PolicyID: s.user}),
		UserTokenSignature: &ua.SignatureData{},
	})
	if err != nil {
		return fmt.Errorf("activate the session: %w", err)
	}
	s.nonce = r.ServerNonce
	return nil
}

// reattach moves the session to a new connection. A status code as error
// means that the server doesn't know the session any more.
func (s *session) reattach(ctx context.Context) error {
	if err := s.dial(ctx); err != nil {
		return err
	}
	return s.activate(ctx, s.token)
}

// detach drops the transport without a word: session, subscription and queues
// stay with the server. CloseSession would throw them away.
func (s *session) detach() {
	if s.conn != nil {
		_ = s.conn.Close() // the connection is given up; there is nobody to tell
	}
	if s.sc != nil {
		_ = s.sc.Close() // likewise; it only stops the library's goroutines
	}
	s.conn, s.sc = nil, nil
}

// call makes one request within the session.
func call[T ua.Response](ctx context.Context, s *session, req ua.Request) (T, error) {
	return callAs[T](ctx, s.sc, s.token, callTimeout, req)
}

func callAs[T ua.Response](ctx context.Context, sc *uasc.SecureChannel, token *ua.NodeID, timeout time.Duration, req ua.Request) (out T, err error) {
	if sc == nil {
		return out, errLost
	}
	err = sc.SendRequestWithTimeout(ctx, req, token, timeout, func(v ua.Response) error {
		r, ok := v.(T)
		if !ok {
			return fmt.Errorf("the server answered %T with %T", req, v)
		}
		out = r
		return nil
	})
	return out, err
}

// refusal is the status code with which the server refused a request; ok is
// false where it gave no answer.
func refusal(err error) (code ua.StatusCode, ok bool) {
	if !errors.As(err, &code) || code == ua.StatusBadTimeout {
		return code, false
	}
	return code, true
}

// namespaces reads the server's namespace array.
func (s *session) namespaces(ctx context.Context) ([]string, error) {
	r, err := call[*ua.ReadResponse](ctx, s, &ua.ReadRequest{
		TimestampsToReturn: ua.TimestampsToReturnNeither,
		NodesToRead: []*ua.ReadValueID{{
			NodeID: ua.NewNumericNodeID(0, id.Server_NamespaceArray), AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("read the namespaces: %w", err)
	}
	if len(r.Results) != 1 || r.Results[0].Value == nil {
		return nil, errors.New("the server gives no namespaces")
	}
	ns, ok := r.Results[0].Value.Value().([]string)
	if !ok {
		return nil, errors.New("the server's namespaces are no list of texts")
	}
	return ns, nil
}
