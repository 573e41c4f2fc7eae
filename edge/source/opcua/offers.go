package opcua

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/channel"
)

// plainly opens a channel without protection, as only questions about the server
// itself may be asked, and has it used.
func (s *session) plainly(ctx context.Context, use func(ch *channel.Channel) error) error {
	cfg := channel.Config{Endpoint: s.endpoint, Mode: ua.MessageSecurityModeNone, DialTimeout: dialTimeout, SendTimeout: callTimeout, Lifetime: channelLife}
	if err := channel.With(ctx, cfg, use); err != nil {
		return fmt.Errorf("%w: %w", errAsking, err)
	}
	return nil
}

// errAsking is what went wrong before anything of the server was known.
var errAsking = errors.New("ask for its endpoints")

// endpoints asks a server what it offers.
func endpoints(ctx context.Context, ch *channel.Channel, endpoint string) ([]*ua.EndpointDescription, error) {
	r, err := callAs[*ua.GetEndpointsResponse](ctx, ch, nil, &ua.GetEndpointsRequest{EndpointURL: endpoint})
	if err != nil {
		return nil, err
	}
	return r.Endpoints, nil
}

// maxOffers is how many of a server's offers one text names.
const maxOffers = 16

// wanted are the policies that are asked for, the strongest first.
func (s *Security) wanted() []string {
	switch {
	case s.Insecure:
		return []string{policyNone}
	case s.Policy != "":
		return []string{s.Policy}
	}
	return policies()
}

const policyNone = "None"

func policyOf(e *ua.EndpointDescription) string {
	return strings.TrimPrefix(e.SecurityPolicyURI, policyPrefix)
}

func modeOf(e *ua.EndpointDescription) string {
	return strings.TrimPrefix(e.SecurityMode.String(), "MessageSecurityMode")
}

// fits ranks an offer among those that are asked for; below 0: it is none of them,
// and why in words.
func (s *session) fits(e *ua.EndpointDescription) (rank int, why string) {
	const none = -1
	wanted, policy := s.security.wanted(), policyOf(e)
	i := slices.Index(wanted, policy)
	switch {
	case !strings.HasPrefix(e.EndpointURL, "opc.tcp:") && strings.Contains(e.EndpointURL, ":"):
		return none, "not opc.tcp, which is all that this agent speaks"
	case i >= 0 && e.SecurityMode == s.security.mode() && strings.HasPrefix(e.SecurityPolicyURI, policyPrefix):
		n := 2 * (len(wanted) - i)
		if strings.EqualFold(hostOf(e.EndpointURL), hostOf(s.endpoint)) {
			n++
		}
		return n, ""
	case s.security.Insecure:
		return none, "security.insecure: true asks for no protection"
	case e.SecurityMode == ua.MessageSecurityModeNone || policy == policyNone:
		return none, "neither signed nor encrypted: only security.insecure: true takes that"
	case slices.Contains(brokenPolicies(), policy):
		return none, "a policy that is broken and no longer allowed"
	case !slices.Contains(policies(), policy):
		return none, "a policy that this agent does not speak"
	case i < 0:
		return none, "security.policy asks for another"
	case e.SecurityMode == ua.MessageSecurityModeSign:
		return none, "not encrypted: only security.mode: Sign takes that"
	}
	return none, "security.mode asks for another"
}

// brokenPolicies are those that are no longer allowed (OPC 10000-7).
func brokenPolicies() []string { return []string{"Basic256", "Basic128Rsa15"} }

// choose takes of the server's endpoints the strongest that is asked for, and
// of those that are alike the one with the host that was called: the ids of its
// logins may be others than its twin's.
func (s *session) choose(offers []*ua.EndpointDescription) (best *ua.EndpointDescription, err error) {
	most := -1
	for _, e := range offers {
		if e == nil {
			continue
		}
		if n, _ := s.fits(e); n > most {
			best, most = e, n
		}
	}
	if best == nil {
		return nil, s.noneOf(offers)
	}
	return best, nil
}

// noneOf says that nothing that is asked for is offered, and the way out.
func (s *session) noneOf(offers []*ua.EndpointDescription) error {
	var offered, ways []string
	open := false
	for _, e := range offers {
		if e == nil {
			continue
		}
		name := policyOf(e) + " " + modeOf(e)
		open = open || e.SecurityMode == ua.MessageSecurityModeNone
		if !slices.Contains(offered, name) && len(offered) < maxOffers {
			offered = append(offered, name)
			if slices.Contains(policies(), policyOf(e)) && e.SecurityMode != ua.MessageSecurityModeNone {
				ways = append(ways, fmt.Sprintf("security.policy: %s with security.mode: %s", policyOf(e), modeOf(e)))
			}
		}
	}
	has := "it offers nothing at all"
	if len(offered) > 0 {
		has = fmt.Sprintf("it offers %.400q", strings.Join(offered, ", "))
	}
	text := fmt.Sprintf("the server does not offer %s with %s; %s. ", strings.Join(s.security.wanted(), " or "), strings.TrimPrefix(s.security.mode().String(), "MessageSecurityMode"), has)
	switch {
	case s.security.Insecure:
		text += "Take security.insecure: true out, so that this gateway signs and encrypts"
	case len(ways) > 0:
		text += "Enable what is asked for at the server, or take what there is: " + strings.Join(ways, ", or ")
	case open:
		text += "Enable Basic256Sha256 with SignAndEncrypt at the server. If it can't, and everyone on that network may read and change what is sent: security.insecure: true"
	default:
		text += "Enable Basic256Sha256 with SignAndEncrypt at the server"
	}
	return &offerError{text}
}

// offerError is that a server offers nothing that is asked for.
type offerError struct{ text string }

func (e *offerError) Error() string { return e.text }

// login is the kind of login that is asked for.
func (s *Security) login() ua.UserTokenType {
	switch {
	case s.User != "":
		return ua.UserTokenTypeUserName
	case s.UserCertificate != "":
		return ua.UserTokenTypeCertificate
	}
	return ua.UserTokenTypeAnonymous
}

// taken is how an endpoint takes the login that is asked for.
func (s *session) taken(e *ua.EndpointDescription) (*ua.UserTokenPolicy, error) {
	kind := s.security.login()
	for _, t := range e.UserIdentityTokens {
		if t != nil && t.TokenType == kind {
			return t, nil
		}
	}
	ways := map[ua.UserTokenType]string{
		ua.UserTokenTypeAnonymous:   "without a name: set security.user and security.password_file, or let it take clients without a login",
		ua.UserTokenTypeUserName:    "by user and password: allow that at the server, or take security.user out",
		ua.UserTokenTypeCertificate: "by certificate: allow that at the server, or take security.user_certificate out",
	}
	return nil, loginFault("the server takes no login %s (it takes: %s)", ways[kind], strings.Join(logins(e), ", "))
}

// logins are the ways to log in at an endpoint, in words.
func logins(e *ua.EndpointDescription) (out []string) {
	words := map[ua.UserTokenType]string{
		ua.UserTokenTypeAnonymous: "anonymous", ua.UserTokenTypeUserName: "user name", ua.UserTokenTypeCertificate: "certificate", ua.UserTokenTypeIssuedToken: "issued token",
	}
	for _, t := range e.UserIdentityTokens {
		if t == nil || len(out) == maxNamed {
			continue
		}
		name, ok := words[t.TokenType]
		if !ok {
			name = fmt.Sprintf("kind %d", uint32(t.TokenType))
		}
		if t.TokenType == ua.UserTokenTypeUserName && t.SecurityPolicyURI == ua.SecurityPolicyURINone && e.SecurityMode != ua.MessageSecurityModeSignAndEncrypt {
			name += " (in clear text: not taken)"
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		out = append(out, "none that it names")
	}
	return out
}
