package opcua

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/trust"
	"plantmesh/proto/answer"
)

// advice is what a status means to a technician: which side, and what helps.
type advice struct{ say, fix string }

// advices are the statuses whose names say too little (OPC 10000-4 §7.39.2).
func advices() map[ua.StatusCode]advice {
	untrusted := advice{
		"the server does not trust this gateway's certificate yet; most servers put it into a list of rejected ones",
		"trust it there, by its fingerprint, or install it",
	}
	identity := advice{"the server refuses this login", "check user and password in this source's file, and the user's rights at the server"}
	return map[ua.StatusCode]advice{
		ua.StatusBadCertificateUntrusted:       untrusted,
		ua.StatusBadSecurityChecksFailed:       untrusted,
		ua.StatusBadCertificateChainIncomplete: untrusted,
		ua.StatusBadCertificateURIInvalid:      {"the server finds another application URI in this gateway's certificate than in its request", "make a new certificate: plantmesh-edge cert renew"},
		ua.StatusBadCertificateTimeInvalid:     {"the server's clock says that this gateway's certificate is not valid now", "compare the clocks of gateway and server; else make a new certificate: plantmesh-edge cert renew"},
		ua.StatusBadCertificateUseNotAllowed:   {"the server does not allow this gateway's certificate for OPC UA", "make a new certificate: plantmesh-edge cert renew"},
		ua.StatusBadCertificateInvalid:         {"the server can't read this gateway's certificate", "make a new certificate: plantmesh-edge cert renew"},
		ua.StatusBadCertificateRevoked:         {"the server has this gateway's certificate on a list of revoked ones", "ask whoever runs the server; then make a new certificate: plantmesh-edge cert renew"},
		ua.StatusBadSecurityPolicyRejected:     {"the server refuses this security policy", "set policy in this source's file to one that the server has switched on"},
		ua.StatusBadSecurityModeRejected:       {"the server refuses this security mode", "set mode in this source's file to one that the server has switched on"},
		ua.StatusBadIdentityTokenRejected:      identity,
		ua.StatusBadIdentityTokenInvalid:       identity,
		ua.StatusBadUserAccessDenied:           identity,
		ua.StatusBadTooManySessions:            {"the server has as many clients as it takes", "close another client there, or raise its number of sessions"},
		ua.StatusBadTooManySubscriptions:       {"the server has as many subscriptions as it takes", "close another client there, or raise its number of subscriptions"},
		ua.StatusBadTooManyMonitoredItems:      {"the server watches as many nodes as it can", "take signals out of this source's file, or raise its number of monitored items"},
		ua.StatusBadTCPEndpointURLInvalid:      {"the server does not know itself by this endpoint", "use the endpoint that the server shows, with its path"},
		ua.StatusBadServerHalted:               {"the server says that it is stopped", "start it at the machine: the network is well"},
		ua.StatusBadShutdown:                   {"the server is shutting down", "nothing, if that was meant: it is called again"},
		ua.StatusBadOutOfService:               {"the server says that it is out of service", "look at the machine: the network is well"},
	}
}

// explain is an error in plain words, with the fix where one is known.
func (s *session) explain(err error) string {
	text := s.inWords(err)
	if s.app.Config != "" {
		text = strings.ReplaceAll(text, "plantmesh-edge cert ", answer.Command("plantmesh-edge", "cert", "--config", s.app.Config)+" ")
	}
	return text
}

func (s *session) inWords(err error) string {
	if refused, ok := errors.AsType[*trust.Refusal](err); ok {
		return refused.Error()
	}
	code, _ := errors.AsType[ua.StatusCode](err)
	if fault, ok := errors.AsType[*channel.FaultError](err); ok {
		code = ua.StatusCode(fault.Code)
	}
	a, known := advices()[code]
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Sprintf("the name %s in this source's endpoint is not known here: use the machine's address, or add the name to DNS or /etc/hosts (%v)", dns.Name, err)
	}
	if !known {
		return err.Error()
	}
	text := fmt.Sprintf("%s: %s (%v)", a.say, a.fix, err)
	if s.own.Cert != nil && !s.security.Insecure {
		text += fmt.Sprintf("; this gateway's certificate is %s, %s", filepath.Join(s.app.Store, "own", "cert.der"), trust.Fingerprint(s.own.Cert))
	}
	return text
}
