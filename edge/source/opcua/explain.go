package opcua

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/trust"
	"plantmesh/proto/answer"
)

// advice is what a trouble means to a technician: which side, and what helps. Keys
// are named as they stand in a source's file, with "security." before: who calls a
// server by flags puts those in their place.
type advice struct {
	say, fix string
	kind     Kind
}

// Kind is what a connection failed of, where that is more than the network.
type Kind string

// The kinds there are.
const (
	OfLogin          Kind = "login"           // the server refuses who logs in
	OfOwnCertificate Kind = "own certificate" // the server refuses this gateway's certificate
)

// advices are the statuses whose names say too little (OPC 10000-4 §7.39.2).
func advices() map[ua.StatusCode]advice {
	const renew = "make a new certificate: plantmesh-edge cert renew"
	busy := advice{say: "the server is at the end of its memory or connections", fix: "it is called again; if that stays so, close other clients there, or start it anew"}
	licence := advice{say: "the server's licence does not allow this connection: it has ended, is missing, or is used up", fix: "see to the licence of OPC UA at the server, or close another client there"}
	unrevoked := ours("the server can't tell whether this gateway's certificate was revoked", "give the server the current revocation list of whoever issued the certificate")
	return map[ua.StatusCode]advice{
		ua.StatusBadCertificateUntrusted:               untrusted(""),
		ua.StatusBadCertificateChainIncomplete:         untrusted(""),
		ua.StatusBadSecurityChecksFailed:               untrusted("the server says only that a security check failed; most often that means: "),
		ua.StatusBadCertificateURIInvalid:              ours("the server finds another application URI in this gateway's certificate than in its request", renew),
		ua.StatusBadCertificateTimeInvalid:             ours("the server's clock says that this gateway's certificate is not valid now", "compare the clocks of gateway and server; else "+renew),
		ua.StatusBadCertificateUseNotAllowed:           ours("the server does not allow this gateway's certificate for OPC UA", renew),
		ua.StatusBadCertificateHostNameInvalid:         ours("the server finds another host in this gateway's certificate than it expects", renew),
		ua.StatusBadCertificatePolicyCheckFailed:       ours("the server asks for more than this gateway's certificate has, such as a longer key than 2048 bits", "lower that at the server, or put a key and certificate that satisfy it in the place of this gateway's"),
		ua.StatusBadCertificateInvalid:                 ours("the server can't read this gateway's certificate", renew),
		ua.StatusBadCertificateRevoked:                 ours("the server has this gateway's certificate on a list of revoked ones", "ask whoever runs the server; then "+renew),
		ua.StatusBadCertificateRevocationUnknown:       unrevoked,
		ua.StatusBadCertificateIssuerRevocationUnknown: unrevoked,
		ua.StatusBadInvalidTimestamp:                   {say: "the server finds this gateway's clock too far from its own", fix: "set the one that is wrong; on this gateway: timedatectl set-ntp true"},
		ua.StatusBadTooManySessions:                    {say: "the server has as many clients as it takes", fix: "close another client there, or raise its number of sessions"},
		ua.StatusBadTooManySubscriptions:               {say: "the server has as many subscriptions as it takes", fix: "close another client there, or raise its number of subscriptions"},
		ua.StatusBadTooManyMonitoredItems:              {say: "the server watches as many nodes as it can", fix: "take signals out of this source's file, or raise the server's number of monitored items"},
		ua.StatusBadTCPEndpointURLInvalid:              {say: "the server does not know itself by this endpoint", fix: "use one that it offers, with its path; " + listed},
		ua.StatusBadServerHalted:                       {say: "the server says that it is stopped", fix: "start it at the machine: the network is well"},
		ua.StatusBadShutdown:                           {say: "the server is shutting down", fix: "nothing, if that was meant: it is called again"},
		ua.StatusBadOutOfService:                       {say: "the server says that it is out of service", fix: "look at the machine: the network is well"},
		ua.StatusBadConnectionRejected:                 {say: "the server refuses connections of this gateway", fix: "look at the server for a list of clients that it takes"},
		ua.StatusBadTCPServerTooBusy:                   busy,
		ua.StatusBadTCPNotEnoughResources:              busy,
		ua.StatusBadOutOfMemory:                        busy,
		ua.StatusBadResourceUnavailable:                busy,
		ua.StatusBadTooManyOperations:                  busy,
		ua.StatusBadLicenseExpired:                     licence,
		ua.StatusBadLicenseLimitsExceeded:              licence,
		ua.StatusBadLicenseNotAvailable:                licence,
	}
}

// listed is the command that shows what a server offers; explain completes it.
const listed = "plantmesh-edge browse --endpoints lists them"

func ours(say, fix string) advice { return advice{say, fix, OfOwnCertificate} }

func untrusted(before string) advice {
	return ours(before+"the server does not trust this gateway's certificate yet, and most servers put it into a list of rejected ones", "trust it there, by its fingerprint, or install it")
}

// asked are the advices that depend on what this client asked for.
func (s *Security) asked(code ua.StatusCode) (advice, bool) {
	switch code {
	case ua.StatusBadIdentityTokenRejected, ua.StatusBadIdentityTokenInvalid, ua.StatusBadUserAccessDenied, ua.StatusBadUserSignatureInvalid:
		return s.denied(), true
	case ua.StatusBadSecurityPolicyRejected, ua.StatusBadSecurityModeRejected, ua.StatusBadSecurityModeInsufficient:
		if !s.Insecure {
			return advice{say: "the server refuses this security policy or mode", fix: "set security.policy and security.mode to what the server has switched on; " + listed}, true
		}
	case ua.StatusBadSecurityChecksFailed, ua.StatusBadApplicationSignatureInvalid, ua.StatusBadNoValidCertificates:
		if !s.Insecure {
			return advice{}, false
		}
	default:
		return advice{}, false
	}
	return advice{say: "the server takes no unprotected connection", fix: "take security.insecure: true out, so that this gateway signs and encrypts; " + listed}, true
}

// denied is the advice about a login that is refused.
func (s *Security) denied() advice {
	a := advice{say: "the server refuses this login", kind: OfLogin}
	switch {
	case s.User != "":
		a.fix = fmt.Sprintf("check security.user (%.100q), the password in security.password_file, and that user's rights at the server", s.User)
	case s.UserCertificate != "":
		a.fix = "trust security.user_certificate at the server, and check that user's rights there"
	case s.Insecure:
		a.say += ": none at all"
		a.fix = "let the server take clients without a login; or have one: take security.insecure: true out, for everyone on the network would read it, and set security.user and security.password_file"
	default:
		a.say += ": none at all"
		a.fix = "set security.user and security.password_file, or let the server take clients without a login"
	}
	return a
}

// explain is an error in plain words, with the fix where one is known.
func (s *session) explain(err error) string {
	text, _ := s.sort(err)
	return text
}

// sort is explain, and what kind of trouble it is.
func (s *session) sort(err error) (string, Kind) {
	if refused, ok := errors.AsType[*trust.Refusal](err); ok {
		return s.commanded(refused.Error()), ""
	}
	if _, ok := errors.AsType[*loginError](err); ok {
		return s.commanded(err.Error()), OfLogin
	}
	a, known := s.advice(err)
	if !known {
		return s.commanded(err.Error()), ""
	}
	text := fmt.Sprintf("%s: %s (%v)", a.say, a.fix, err)
	if s.own.Cert != nil && a.kind == OfOwnCertificate {
		text += fmt.Sprintf("; this gateway's certificate is %s, %s", filepath.Join(s.app.Store, "own", "cert.der"), trust.Fingerprint(s.own.Cert))
	}
	return s.commanded(text), a.kind
}

// commanded is a text whose commands are whole.
func (s *session) commanded(text string) string {
	list := []string{"plantmesh-edge", "browse", "--endpoints", s.endpoint}
	if s.app.Config != "" {
		text = strings.ReplaceAll(text, "plantmesh-edge cert ", answer.Command("plantmesh-edge", "cert", "--config", s.app.Config)+" ")
		list = append(list, "--config", s.app.Config)
	}
	return strings.ReplaceAll(text, listed, answer.Command(list...)+" lists them")
}

// advice is what is known of an error.
func (s *session) advice(err error) (a advice, known bool) {
	code, _ := errors.AsType[ua.StatusCode](err)
	if fault, ok := errors.AsType[*channel.FaultError](err); ok {
		code = ua.StatusCode(fault.Code)
	}
	if a, known = s.security.asked(code); known {
		if errors.Is(err, errAsking) && a.kind == "" {
			a = advice{say: "the server lets nobody ask what it offers without protection", fix: "switch that on at the server (discovery, or policy None for discovery alone): before this gateway has its certificate it can protect nothing"}
		}
		return a, true
	}
	if a, known = advices()[code]; known {
		return a, true
	}
	at := hostOf(s.endpoint)
	dns, named := errors.AsType[*net.DNSError](err)
	dial, dialled := errors.AsType[*net.OpError](err)
	switch {
	case named:
		return advice{say: fmt.Sprintf("the name %.200s is not known here", dns.Name), fix: "use the machine's address, or add the name to DNS or /etc/hosts"}, true
	case errors.Is(err, channel.ErrHello):
		return advice{say: "something listens there and does not answer as an OPC UA server", fix: "check the port (4840 is usual), and whether the server hangs"}, true
	case errors.Is(err, syscall.ECONNREFUSED):
		return advice{say: fmt.Sprintf("%s is there, and nothing listens at this port", at), fix: "start or switch on its OPC UA server, or check the port (4840 is usual)"}, true
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return advice{say: fmt.Sprintf("there is no way from this gateway to %s", at), fix: "check the address, the cable, and the gateway's network settings"}, true
	case dialled && dial.Op == "dial" && dial.Timeout():
		return advice{say: fmt.Sprintf("%s gives no sign of life", at), fix: "check the address, whether the machine is on, the cable, and firewalls in between"}, true
	case errors.Is(err, errMute):
		return advice{say: "the server takes the login and then answers nothing: it hangs", fix: "start its OPC UA server anew at the machine; the network is well, and it is called again"}, true
	case errors.Is(err, errUntold):
		return advice{say: "the server answers, but does not send what changes", fix: "start its OPC UA server anew at the machine; or set poll: 1s in this source's file, which asks for each value instead"}, true
	case errors.Is(err, channel.ErrTimeout):
		return advice{say: "the server is connected and takes too long to answer", fix: "look whether its OPC UA server hangs or is overloaded: fewer clients, fewer signals, or a longer sampling_interval help"}, true
	case errors.Is(err, channel.ErrSecurity):
		return advice{say: "who answers is not the server that is trusted, or the server signs wrongly", fix: "find out what stands between gateway and server; if nothing does, update the server's OPC UA software"}, true
	}
	return a, false
}

// loginError is a login that is not even tried; it says what helps.
type loginError struct{ text string }

func (e *loginError) Error() string { return e.text }

func loginFault(format string, args ...any) error { return &loginError{fmt.Sprintf(format, args...)} }
