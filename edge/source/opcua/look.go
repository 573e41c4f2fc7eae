package opcua

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/trust"
)

// Survey is what a server says to whoever asks, before anybody logs in. Texts are the
// server's own.
type Survey struct {
	Endpoint string `json:"endpoint"` // that was asked
	Name     string `json:"name"`
	URI      string `json:"application_uri"`
	Kind     string `json:"kind"` // Server, Client, ClientAndServer or DiscoveryServer

	Offers    []Offer         `json:"offers"`
	Call      string          `json:"call,omitempty"`      // the endpoint to call for the offer that is taken
	Obstacles []string        `json:"obstacles,omitempty"` // why none is taken, or what keeps that one from being used, and what helps
	Trusted   *bool           `json:"trusted,omitempty"`   // the certificate of the one that is taken; left out where that was not asked
	Others    []AnotherServer `json:"others,omitempty"`    // that it knows of

	// What the obstacles are made of; nil: there is none of that kind.
	NoOffer error          `json:"-"` // it offers nothing that is asked for
	NoLogin error          `json:"-"` // what it offers takes no login of the kind that is asked for
	Refused *trust.Refusal `json:"-"` // its certificate is not one to be used

	Behind  time.Duration `json:"-"` // how far this gateway's clock is behind the server's, half of the way there and back left out
	Clocked bool          `json:"-"` // the server said what its clock is
}

// Offer is one endpoint of a server, as this client sees it.
type Offer struct {
	URL    string   `json:"url"` // as the server advertises it
	Policy string   `json:"policy"`
	Mode   string   `json:"mode"`
	Logins []string `json:"logins"`
	Level  int      `json:"security_level"` // how the server ranks it
	Taken  bool     `json:"taken"`
	Why    string   `json:"why"` // it is taken, or is not

	Certificate *ShownCertificate `json:"certificate,omitempty"`
}

// ShownCertificate is one that a server shows.
type ShownCertificate struct {
	Subject     string    `json:"subject"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Text        string    `json:"-"` // all of it in a line
}

// AnotherServer is one that a server knows of.
type AnotherServer struct {
	Name string   `json:"name"`
	URI  string   `json:"application_uri"`
	URLs []string `json:"urls"`
}

const (
	maxSurveyed = 200 // endpoints and servers that are told
	maxSaid     = 512 // bytes of a text of the server
)

// Look asks a server what it offers and chooses as a connection of cfg would. Where
// cfg has a store of certificates, the server's is judged as at a connection: one
// that is refused can be trusted by its fingerprint then. It logs nobody in.
func Look(ctx context.Context, cfg Config, log *slog.Logger) (out Survey, err error) {
	s := session{endpoint: cfg.Endpoint, security: cfg.Security, app: cfg.Application, log: log}
	var offers []*ua.EndpointDescription
	var known []*ua.ApplicationDescription
	err = s.plainly(ctx, func(ch *channel.Channel) (err error) {
		if offers, err = endpoints(ctx, ch, s.endpoint); err != nil {
			return err
		}
		began := time.Now()
		r, err := callAs[*ua.FindServersResponse](ctx, ch, nil, &ua.FindServersRequest{EndpointURL: s.endpoint})
		if err == nil { // else it knows none: what it offers itself was asked for
			known = r.Servers
			out.clocked(r.ResponseHeader, began, time.Now())
		}
		return nil
	})
	out.Endpoint, out.Offers = cfg.Endpoint, []Offer{}
	if err != nil {
		return out, s.failed(err)
	}
	best, err := s.choose(offers)
	if err != nil {
		out.NoOffer = err
		out.Obstacles = append(out.Obstacles, s.explain(err))
	}
	for _, e := range offers {
		if e == nil || len(out.Offers) == maxSurveyed {
			continue
		}
		if d := e.Server; d != nil && out.Name == "" {
			out.Name, out.URI, out.Kind = said(d.ApplicationName), cutTo(d.ApplicationURI), strings.TrimPrefix(d.ApplicationType.String(), "ApplicationType")
		}
		out.Offers = append(out.Offers, s.offered(e, best))
	}
	out.Others = others(known, out.URI)
	if best != nil {
		s.settle(&out, best)
	}
	return out, nil
}

// clocked notes the server's clock, as it stands in each response.
func (out *Survey) clocked(h *ua.ResponseHeader, began, ended time.Time) {
	if h == nil || h.Timestamp.Year() < 2000 {
		return
	}
	out.Behind, out.Clocked = h.Timestamp.Sub(began.Add(ended.Sub(began)/2)), true
}

// settle says how an offer is called, and what stands in the way.
func (s *session) settle(out *Survey, best *ua.EndpointDescription) {
	out.Call = callAt(s.endpoint, best.EndpointURL)
	if s.security.Insecure {
		return
	}
	if _, err := s.taken(best); err != nil {
		out.NoLogin = err
		out.Obstacles = append(out.Obstacles, s.explain(err))
	}
	if s.app.Store == "" {
		return
	}
	store, err := trust.Open(s.app.Store)
	if err == nil {
		err = store.Judge(best.ServerCertificate, s.want(best, out.Call), time.Now())
	}
	trusted := err == nil
	out.Trusted = &trusted
	if r, ok := errors.AsType[*trust.Refusal](err); ok {
		whole := *r
		whole.Say, whole.Fix = s.commanded(r.Say), s.commanded(r.Fix)
		out.Refused = &whole
	}
	if err != nil {
		out.Obstacles = append(out.Obstacles, s.explain(err))
	}
}

// offered is an endpoint in words.
func (s *session) offered(e, best *ua.EndpointDescription) Offer {
	o := Offer{URL: cutTo(e.EndpointURL), Policy: cutTo(policyOf(e)), Mode: modeOf(e), Logins: logins(e), Level: int(e.SecurityLevel), Taken: e == best}
	rank, why := s.fits(e)
	switch {
	case o.Taken && s.security.Insecure:
		o.Why = "unprotected, as security.insecure: true asks for"
	case o.Taken:
		o.Why = "the strongest of what is asked for"
	case rank < 0:
		o.Why = why
	case policyOf(e) == policyOf(best):
		o.Why = "the same by another address"
	default:
		o.Why = "weaker than the one that is taken"
	}
	if len(e.ServerCertificate) > 0 {
		o.Certificate = shown(e.ServerCertificate)
	}
	return o
}

func shown(chain []byte) *ShownCertificate {
	all, err := x509.ParseCertificates(chain)
	if err != nil || len(all) == 0 {
		return &ShownCertificate{Subject: "can't be read", Text: "can't be read"}
	}
	c := all[0]
	return &ShownCertificate{Subject: cutTo(c.Subject.String()), Fingerprint: trust.Fingerprint(c), NotBefore: c.NotBefore, NotAfter: c.NotAfter, Text: trust.Portrait(c)}
}

// callAt is the server that answered at called, with the path that it offers: what it
// says of its host and port may be known on its own network only.
func callAt(called, offered string) string {
	at, err := url.Parse(called)
	if err != nil {
		return called
	}
	if o, err := url.Parse(offered); err == nil && at.Path == "" {
		at.Path = o.Path
	}
	return at.String()
}

// others are the servers that a server knows beside itself.
func others(known []*ua.ApplicationDescription, own string) (out []AnotherServer) {
	for _, d := range known {
		if d == nil || d.ApplicationURI == own || len(out) == maxSurveyed {
			continue
		}
		a := AnotherServer{Name: said(d.ApplicationName), URI: cutTo(d.ApplicationURI)}
		for _, u := range d.DiscoveryURLs {
			if strings.HasPrefix(u, "opc.tcp:") && len(a.URLs) < maxNamed && !slices.Contains(a.URLs, u) {
				a.URLs = append(a.URLs, cutTo(u))
			}
		}
		if len(a.URLs) > 0 {
			out = append(out, a)
		}
	}
	return out
}

func said(t *ua.LocalizedText) string {
	if t == nil {
		return ""
	}
	return cutTo(t.Text)
}

func cutTo(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxSaid)], "?")
}
