package opcua

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/channel"
)

// Each text says what is wrong, on which side, and what helps.
func TestSession_Explain(t *testing.T) {
	plain, named, certified := Security{Insecure: true}, Security{Mode: "Sign", User: "anna", PasswordFile: "pw"}, Security{Mode: "Sign", UserCertificate: "c", UserKey: "k"}
	protected := Security{Mode: "SignAndEncrypt"}
	status := func(code ua.StatusCode) error { return fmt.Errorf("activate the session: %w", code) }
	dial := func(err error) error { return fmt.Errorf("dial: %w", &net.OpError{Op: "dial", Err: err}) }
	for name, c := range map[string]struct {
		s    Security
		err  error
		kind Kind
		want []string
	}{
		"not trusted there":         {protected, fmt.Errorf("open: %w", &channel.FaultError{Code: uint32(ua.StatusBadSecurityChecksFailed)}), OfOwnCertificate, []string{"the server does not trust this gateway's certificate yet", "trust it there, by its fingerprint"}},
		"checks, unprotected":       {plain, status(ua.StatusBadSecurityChecksFailed), "", []string{"the server takes no unprotected connection", "take security.insecure: true out", "plantmesh-edge browse --endpoints opc.tcp://plc-7:4840 --config 'my edge.yaml' lists them"}},
		"our certificate":           {protected, status(ua.StatusBadCertificateURIInvalid), OfOwnCertificate, []string{"another application URI in this gateway's certificate", "plantmesh-edge cert --config 'my edge.yaml' renew"}},
		"policy refused":            {protected, status(ua.StatusBadSecurityPolicyRejected), "", []string{"the server refuses this security policy or mode", "set security.policy and security.mode", "--endpoints opc.tcp://plc-7:4840"}},
		"no discovery":              {protected, fmt.Errorf("%w: %w", errAsking, &channel.FaultError{Code: uint32(ua.StatusBadSecurityPolicyRejected)}), "", []string{"the server lets nobody ask what it offers without protection", "switch that on at the server"}},
		"mode refused, unprotected": {plain, status(ua.StatusBadSecurityModeRejected), "", []string{"the server takes no unprotected connection", "take security.insecure: true out"}},
		"nobody":                    {protected, status(ua.StatusBadIdentityTokenRejected), OfLogin, []string{"the server refuses this login: none at all", "set security.user and security.password_file"}},
		"nobody, unprotected":       {plain, status(ua.StatusBadIdentityTokenInvalid), OfLogin, []string{"the server refuses this login: none at all", "take security.insecure: true out", "set security.user and security.password_file"}},
		"user":                      {named, status(ua.StatusBadUserAccessDenied), OfLogin, []string{"the server refuses this login", `check security.user ("anna"), the password in security.password_file`}},
		"user certificate":          {certified, status(ua.StatusBadUserSignatureInvalid), OfLogin, []string{"the server refuses this login", "trust security.user_certificate at the server"}},
		"licence":                   {protected, status(ua.StatusBadLicenseLimitsExceeded), "", []string{"the server's licence", "see to the licence"}},
		"name":                      {plain, fmt.Errorf("dial: %w", &net.DNSError{Name: "plc-7", Err: "no such host"}), "", []string{"the name plc-7 is not known here", "add the name to DNS"}},
		"refused":                   {plain, dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), "", []string{"plc-7 is there, and nothing listens at this port", "4840 is usual"}},
		"no way":                    {plain, dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), "", []string{"no way from this gateway to plc-7", "check the address"}},
		"silent":                    {plain, dial(os.ErrDeadlineExceeded), "", []string{"plc-7 gives no sign of life", "firewalls in between"}},
		"no server":                 {plain, fmt.Errorf("dial: %w", channel.ErrHello), "", []string{"does not answer as an OPC UA server", "check the port"}},
		"mute":                      {plain, fmt.Errorf("%w: read: %w", errMute, channel.ErrTimeout), "", []string{"takes the login and then answers nothing: it hangs", "start its OPC UA server anew"}},
		"never publishes":           {plain, fmt.Errorf("%w for 3s", errUntold), "", []string{"the server answers, but does not send what changes", "set poll: 1s"}},
		"slow":                      {plain, fmt.Errorf("read: %w", channel.ErrTimeout), "", []string{"takes too long to answer", "sampling_interval"}},
		"between":                   {protected, fmt.Errorf("open: %w: its signature is wrong", channel.ErrSecurity), "", []string{"is not the server that is trusted", "between gateway and server"}},
		"something else":            {plain, errors.New("something else"), "", []string{"something else"}},
	} {
		s := &session{endpoint: "opc.tcp://plc-7:4840", security: c.s, app: Application{Config: "my edge.yaml"}}
		got, kind := s.sort(c.err)
		for _, w := range c.want {
			if !strings.Contains(got, w) || kind != c.kind || strings.Contains(got, "\n") {
				t.Errorf("%s: %q of kind %q, want %q of %q", name, got, kind, w, c.kind)
			}
		}
	}
	for code, a := range advices() {
		if !strings.Contains(a.say, "the server") || len(a.fix) < 20 || ua.StatusCodes[code].Name == "" || (a.kind == OfOwnCertificate) != strings.Contains(a.say, "this gateway's certificate") {
			t.Errorf("%v: %+v", code, a)
		}
	}
}

// A connection that was really refused, or answered by something else, is told so.
func TestVisit_SaysWhatListensThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = c.Close()
		}
	}()
	visit := func() string {
		err := Visit(t.Context(), Config{ID: "x", Endpoint: "opc.tcp://" + l.Addr().String(), Security: Security{Insecure: true}}, slog.New(slog.DiscardHandler), nil)
		if err == nil {
			t.Fatal("no error")
		}
		return err.Error()
	}
	if said := visit(); !strings.Contains(said, "does not answer as an OPC UA server") || !strings.Contains(said, "HTTP") {
		t.Errorf("of a web server it says %q", said)
	}
	_ = l.Close()
	if said := visit(); !strings.Contains(said, "127.0.0.1 is there, and nothing listens at this port") {
		t.Errorf("of a closed port it says %q", said)
	}
}

// What no login is tried for says what helps, too.
func TestSession_LoginsThatAreNotTried(t *testing.T) {
	token := func(kind ua.UserTokenType, policy string) []*ua.UserTokenPolicy {
		return []*ua.UserTokenPolicy{nil, {TokenType: kind, SecurityPolicyURI: policy}}
	}
	dir := t.TempDir()
	pw := filepath.Join(dir, "pw")
	if err := os.WriteFile(pw, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	user := Security{Mode: "Sign", User: "anna", PasswordFile: pw}
	for name, c := range map[string]struct {
		s      Security
		tokens []*ua.UserTokenPolicy
		want   string
	}{
		"no name":        {Security{}, token(ua.UserTokenTypeUserName, ""), "the server takes no login without a name: set security.user and security.password_file, or let it take clients without a login (it takes: user name)"},
		"no user":        {user, token(ua.UserTokenTypeAnonymous, ""), "the server takes no login by user and password: allow that at the server, or take security.user out (it takes: anonymous)"},
		"no certificate": {Security{Mode: "Sign", UserCertificate: "c", UserKey: "k"}, nil, "the server takes no login by certificate: allow that at the server, or take security.user_certificate out (it takes: none that it names)"},
		"clear text":     {user, token(ua.UserTokenTypeUserName, ua.SecurityPolicyURINone), "the server wants the password in clear text, which this agent sends only where all is encrypted: set security.mode: SignAndEncrypt"},
		"no password":    {Security{User: "anna", PasswordFile: filepath.Join(dir, "none")}, token(ua.UserTokenTypeUserName, ""), "the password in security.password_file can't be read on this gateway: open " + dir},
		"no user key":    {Security{UserCertificate: pw, UserKey: pw}, token(ua.UserTokenTypeCertificate, ""), "read the user's certificate and its key, security.user_certificate and security.user_key: "},
		"odd policy":     {user, token(ua.UserTokenTypeUserName, policyPrefix+"Basic256"), `the server wants a login protected with "Basic256", which is none of `},
	} {
		s := secured(t, "opc.tcp://plc-7", c.s)
		s.offer = &ua.EndpointDescription{SecurityMode: ua.MessageSecurityModeSign, SecurityPolicyURI: policyPrefix + "Basic256Sha256", UserIdentityTokens: c.tokens}
		_, _, err := s.login()
		if err == nil {
			t.Errorf("%s: it logs in", name)
			continue
		}
		if text, kind := s.sort(fmt.Errorf("open: %w", err)); kind != OfLogin || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q of %q, want %q", name, text, kind, c.want)
		}
	}
}
