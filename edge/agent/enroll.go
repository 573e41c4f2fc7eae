package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"plantmesh/edge/forward"
	"plantmesh/proto/answer"
	"plantmesh/proto/enroll"
	"plantmesh/proto/strict"
)

// callWithin bounds one call to a hub's HTTP address.
const callWithin = 15 * time.Second

// Sign is a request to be let in, signed by the key at path, which is made where there
// is none.
func Sign(q enroll.Request, path string) (enroll.Signed, enroll.Request, error) {
	public, err := Keygen(path)
	if err != nil {
		return enroll.Signed{}, q, err
	}
	seed, err := os.ReadFile(path)
	if err != nil {
		return enroll.Signed{}, q, &strict.Fault{File: path, What: strict.Unreadable(err)}
	}
	kp, err := nkeys.ParseDecoratedUserNKey(seed)
	if err != nil {
		return enroll.Signed{}, q, &strict.Fault{File: path, What: "holds no key of an agent; name a file that is not there yet"}
	}
	q.Version, q.PublicKey = enroll.Version, public
	var s enroll.Signed
	if s.Request, err = json.Marshal(q); err != nil {
		return s, q, fmt.Errorf("write a request: %w", err)
	}
	if s.Signature, err = kp.Sign(s.Request); err != nil {
		return s, q, fmt.Errorf("sign a request: %w", err)
	}
	if _, err := s.Parse(); err != nil {
		return s, q, &answer.Error{Code: answer.Usage, Message: err.Error()}
	}
	return s, q, nil
}

// Host is this machine, for whoever approves it.
func Host(version string) enroll.Host {
	name, _ := os.Hostname() // nobody has to have one
	return enroll.Host{Name: printable(name), System: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), Version: printable(version)}
}

// printable is a text as a request takes it.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 100)]
}

// HubAddress checks the address of a hub for people and programs. Where others could
// listen on the way it must be https: who answers decides where the data goes.
func HubAddress(hub string) (*url.URL, error) {
	u, err := url.Parse(hub)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%q is no address such as https://hub.example.com", hub)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return nil, fmt.Errorf("%q has more than a name and a port: write %s://%s", hub, u.Scheme, u.Host)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s goes over a network and is not protected: whoever answers there decides where this gateway's data goes; use https", hub)
	}
	return u, nil
}

// Door is where a gateway asks a hub to let it in.
type Door struct {
	Hub  string       // as https://hub.example.com
	Road forward.Road // how it gets there
	// CA is a file of who may vouch for the hub beside those that this machine trusts, as
	// plantmesh authority prints it or as it stands behind a token; empty: those alone.
	CA string
}

// Knock asks a hub once.
func (d Door) Knock(ctx context.Context, signed enroll.Signed) (a enroll.Answer, err error) {
	hub := d.Hub
	u, err := HubAddress(hub)
	if err != nil {
		return a, &answer.Error{Code: answer.Usage, Message: err.Error()}
	}
	body, err := json.Marshal(signed)
	if err != nil {
		return a, fmt.Errorf("write a request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.JoinPath(enroll.Path).String(), bytes.NewReader(body))
	if err != nil {
		return a, fmt.Errorf("ask the hub: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	trusted, err := d.trusting()
	if err != nil {
		return a, err
	}
	defer trusted.CloseIdleConnections()
	c := http.Client{Transport: trusted, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(r)
	if err != nil {
		return a, unheard(hub, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	b, err := io.ReadAll(io.LimitReader(resp.Body, enroll.MaxAnswer))
	if err != nil {
		return a, unheard(hub, err)
	}
	if resp.StatusCode != http.StatusOK {
		return a, refusedCall(hub, resp.StatusCode, b)
	}
	if err := json.Unmarshal(b, &a); err != nil || a.State == "" {
		return a, &answer.Error{Code: answer.Network, Message: hub + " does not answer as a hub of Plantmesh does: is the address right?"}
	}
	return a, nil
}

// trusting is how it is called. The proxies of the road are asked by the road; of another
// kind the environment alone may name one, which the standard library knows.
func (d Door) trusting() (*http.Transport, error) {
	t := &http.Transport{DialContext: d.Road.Dial, ForceAttemptHTTP2: true, TLSHandshakeTimeout: callWithin}
	if u, err := d.Road.By(d.address()); err == nil && u != nil && strings.HasPrefix(u.Scheme, "socks5") {
		t.Proxy, t.DialContext = http.ProxyURL(u), nil
	}
	if d.CA == "" {
		return t, nil
	}
	b, err := os.ReadFile(d.CA)
	if err != nil {
		return nil, &strict.Fault{File: d.CA, What: strict.Unreadable(err)}
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(b) // a token of before has none
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return t, nil
}

// address is its host and port; empty: it is no address.
func (d Door) address() string {
	u, err := url.Parse(d.Hub)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// unheard is a hub that does not answer.
func unheard(hub string, err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	if proxy, ok := errors.AsType[*forward.ProxyError](err); ok {
		return &answer.Error{Code: answer.Network, Message: proxy.Error(), Hint: proxy.Fix()}
	}
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return &answer.Error{
			Code: answer.Network, Message: fmt.Sprintf("nobody whom this gateway trusts vouches for the hub at %s: %v", hub, unknown),
			Hint: "a hub that signs its own certificate: bring what plantmesh authority prints there, and say --ca with that file",
		}
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return &answer.Error{
			Code: answer.Network, Message: fmt.Sprintf("the certificate of the hub at %s is not valid now: it is from %s until %s", hub, invalid.Cert.NotBefore.UTC().Format(time.DateOnly), invalid.Cert.NotAfter.UTC().Format(time.DateOnly)),
			Hint: "if this gateway's clock is wrong: timedatectl set-ntp true; else renew http.cert_file of hub.yaml: the hub reads it again by itself",
		}
	}
	return &answer.Error{Code: answer.Network, Message: fmt.Sprintf("the hub at %s does not answer: %v", hub, err), Hint: "is it up, and the address the one of its page?"}
}

// refusedCall is a hub that did not look at a request.
func refusedCall(hub string, status int, body []byte) error {
	var p struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(body, &p) != nil || p.Detail == "" {
		return &answer.Error{Code: answer.Network, Message: fmt.Sprintf("%s does not answer as a hub of Plantmesh does (%s): is the address right?", hub, http.StatusText(status))}
	}
	code := answer.Network
	if status == http.StatusBadRequest {
		code = answer.Rejected
	}
	return &answer.Error{Code: code, Message: fmt.Sprintf("the hub at %s: %s", hub, p.Detail)}
}

// Admit puts the token of an answer in its place, where it is one for the agent's own
// key.
func Admit(a enroll.Answer, key, token string) error {
	own, err := ownKey(key)
	if err != nil {
		return err
	}
	text, err := nkeys.ParseDecoratedJWT([]byte(a.Token))
	if err != nil {
		text = ""
	}
	claims, err := jwt.DecodeUserClaims(text)
	if err != nil || claims.Subject != own {
		return &answer.Error{Code: answer.Rejected, Message: "the hub's answer holds no token for this gateway's key"}
	}
	return replace(token, []byte(a.Token))
}

// replace writes a file whole or not at all, and so that a power cut keeps one of both.
func replace(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // made with mode 0600
	if err != nil {
		return &strict.Fault{File: path, What: "can't be written: " + err.Error()}
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(&strict.Fault{File: path, What: "can't be written: " + err.Error()}, os.Remove(f.Name()))
	}
	return nil
}
