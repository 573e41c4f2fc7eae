package opcua

import (
	"crypto/rand"
	"time"

	"github.com/gopcua/opcua/ua"
)

// session is one client's session. It may outlive its connection, unless the
// server is forgetful.
type session struct {
	id, token *ua.NodeID
	conn      *conn // nil while detached
	active    bool
	nonce     []byte
	cert      []byte // the client's certificate
	timeout   time.Duration
	seen      time.Time // machine time of the last request
	pubs      fifo[publishRequest]
}

const (
	minSession = time.Second
	maxSession = time.Hour
)

func (s *Server) application() *ua.ApplicationDescription {
	return &ua.ApplicationDescription{
		ApplicationURI:  Namespace + ":" + s.cfg.Source,
		ProductURI:      Namespace,
		ApplicationName: ua.NewLocalizedText("plantmesh " + s.cfg.Source),
		ApplicationType: ua.ApplicationTypeServer,
		DiscoveryURLs:   []string{s.url},
	}
}

func (s *Server) endpoints() []*ua.EndpointDescription {
	return []*ua.EndpointDescription{{
		EndpointURL:       s.url,
		Server:            s.application(),
		SecurityMode:      ua.MessageSecurityModeNone,
		SecurityPolicyURI: ua.SecurityPolicyURINone,
		UserIdentityTokens: []*ua.UserTokenPolicy{{
			PolicyID: "anonymous", TokenType: ua.UserTokenTypeAnonymous, SecurityPolicyURI: ua.SecurityPolicyURINone,
		}},
		TransportProfileURI: "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary",
	}}
}

func (s *Server) findServers(q *ua.FindServersRequest) ua.Response {
	return &ua.FindServersResponse{
		ResponseHeader: s.header(q.RequestHeader, ua.StatusOK),
		Servers:        []*ua.ApplicationDescription{s.application()},
	}
}

func (s *Server) createSession(c *conn, q *ua.CreateSessionRequest) ua.Response {
	sig, alg, err := c.channel.NewSessionSignature(q.ClientCertificate, q.ClientNonce)
	if err != nil {
		return s.fault(q.RequestHeader, ua.StatusBadSecurityChecksFailed)
	}
	wanted := time.Duration(q.RequestedSessionTimeout) * time.Millisecond
	x := &session{
		id:      ua.NewByteStringNodeID(1, secret(16)),
		token:   ua.NewByteStringNodeID(0, secret(32)),
		conn:    c,
		nonce:   secret(32),
		cert:    q.ClientCertificate,
		timeout: min(max(wanted, minSession), maxSession),
		seen:    time.Now(),
	}
	s.mu.Lock()
	s.sessions[x.token.String()] = x
	s.mu.Unlock()
	return &ua.CreateSessionResponse{
		ResponseHeader:        s.header(q.RequestHeader, ua.StatusOK),
		SessionID:             x.id,
		AuthenticationToken:   x.token,
		RevisedSessionTimeout: float64(x.timeout / time.Millisecond),
		ServerNonce:           x.nonce,
		ServerEndpoints:       s.endpoints(),
		ServerSignature:       &ua.SignatureData{Signature: sig, Algorithm: alg},
		MaxRequestMessageSize: maxMessage,
	}
}

// activateSession binds a session to the connection it comes from: at first,
// and when its client comes back on a new one.
func (s *Server) activateSession(c *conn, q *ua.ActivateSessionRequest) ua.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault := func(code ua.StatusCode) ua.Response {
		return &ua.ServiceFault{ResponseHeader: headerAt(s.proved, q.RequestHeader, code)}
	}
	x := s.sessions[q.RequestHeader.AuthenticationToken.String()]
	if x == nil || s.cfg.Forgetful && x.conn != c {
		return fault(ua.StatusBadSessionIDInvalid)
	}
	if err := c.channel.VerifySessionSignature(x.cert, x.nonce, q.ClientSignature.Signature); err != nil {
		return fault(ua.StatusBadSecurityChecksFailed)
	}
	if t := q.UserIdentityToken; t != nil && t.Value != nil {
		if _, ok := t.Value.(*ua.AnonymousIdentityToken); !ok {
			return fault(ua.StatusBadIdentityTokenRejected)
		}
	}
	if x.conn != c {
		x.pubs = fifo[publishRequest]{} // they belong to the connection before
	}
	x.conn, x.active, x.nonce, x.seen = c, true, secret(32), time.Now()
	return &ua.ActivateSessionResponse{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusOK), ServerNonce: x.nonce}
}

func (s *Server) closeSession(c *conn, q *ua.CloseSessionRequest) ua.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := ua.StatusBadSessionIDInvalid
	if x := s.sessions[q.RequestHeader.AuthenticationToken.String()]; x != nil && x.conn == c {
		code = ua.StatusOK
		s.end(x, q.DeleteSubscriptions || s.cfg.Forgetful)
	}
	if code != ua.StatusOK {
		return &ua.ServiceFault{ResponseHeader: headerAt(s.proved, q.RequestHeader, code)}
	}
	return &ua.CloseSessionResponse{ResponseHeader: headerAt(s.proved, q.RequestHeader, code)}
}

// end forgets a session, and its subscriptions where asked to.
func (s *Server) end(x *session, subs bool) {
	delete(s.sessions, x.token.String())
	x.conn, x.pubs = nil, fifo[publishRequest]{}
	for _, sub := range append([]*subscription(nil), s.subs...) {
		if sub.owner == x && subs {
			s.remove(sub)
		}
	}
}

// alive says whether the request comes from an activated session on its own
// connection, and notes that the session was heard of.
func (s *Server) alive(c *conn, h *ua.RequestHeader) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.sessionOf(h)
	if x == nil || x.conn != c || !x.active {
		return false
	}
	x.seen = time.Now()
	return true
}

func (s *Server) sessionOf(h *ua.RequestHeader) *session {
	return s.sessions[h.AuthenticationToken.String()]
}

// bury takes a connection that ended out of the books.
func (s *Server) bury(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	for _, x := range s.sessions {
		if x.conn != c {
			continue
		}
		x.conn, x.pubs = nil, fifo[publishRequest]{}
		if s.cfg.Forgetful {
			s.end(x, true)
		}
	}
}

// expireSessions ends the sessions that were not heard of in time.
func (s *Server) expireSessions(now time.Time) {
	for _, x := range s.sessions {
		if now.Sub(x.seen) > x.timeout && x.pubs.len() == 0 {
			s.end(x, s.cfg.Forgetful)
		}
	}
}

// secret is n random bytes.
func secret(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return b
}
