package forward

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Road is the way to a hub: straight there, or through an HTTP proxy that is asked for a
// way (CONNECT, RFC 9110 §9.3.6) and looks the hub's name up itself. All that this gateway
// says to its hub goes by it.
type Road struct {
	// Proxy is as http://user@proxy.example:3128, or https://; Straight: none. Empty: what
	// the environment says, HTTPS_PROXY and NO_PROXY, which are for hubs by any scheme; as
	// everywhere they are not for an address of this machine.
	Proxy string
	// PasswordFile holds the password of the user in Proxy, read at each call; empty: none.
	PasswordFile string
}

// Straight as a proxy is that there is none, whatever the environment says.
const Straight = "none"

const (
	// maxProxyAnswer bounds what a proxy may say before it gives way.
	maxProxyAnswer = 64 << 10
	maxPassword    = 4 << 10
)

// Validate says what is wrong with it, in words.
func (r Road) Validate() error {
	if r.Proxy == "" || r.Proxy == Straight {
		if r.PasswordFile != "" {
			return errors.New("a password without a proxy that wants one: write the proxy, as http://user@proxy.example:3128")
		}
		return nil
	}
	u, err := url.Parse(r.Proxy)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("no proxy such as http://proxy.example:3128; none is that there is none")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("a proxy is a name and a port, and nothing behind them")
	}
	if _, has := u.User.Password(); has {
		return errors.New("a password doesn't belong here: write it into a file that only the service reads, and name that (proxy_password_file)")
	}
	if u.User == nil && r.PasswordFile != "" {
		return errors.New("a password without its user: write http://user@" + u.Host)
	}
	return nil
}

// By is the proxy on the way to a hub's host:port; nil: there is none. Of the environment's
// one a password may be in it.
func (r Road) By(address string) (*url.URL, error) {
	switch r.Proxy {
	case Straight:
		return nil, nil //nolint:nilnil // there is none
	case "":
		// The environment is read once in the life of a program.
		u, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: address}})
		if err != nil { // it says the proxy, with its password
			return nil, errors.New("HTTPS_PROXY of the environment is no URL such as http://proxy.example:3128")
		}
		return u, nil
	}
	u, err := url.Parse(r.Proxy)
	if err != nil {
		return nil, errors.New("the proxy is no URL such as http://proxy.example:3128")
	}
	return u, nil
}

// ProxyAddress is where a proxy listens: host and port, with the port of its scheme where
// none is said.
func ProxyAddress(proxy *url.URL) (host, port string) {
	if port = proxy.Port(); port == "" {
		port = map[string]string{"http": "80", "https": "443"}[proxy.Scheme]
	}
	return proxy.Hostname(), port
}

// Dial opens a connection to a hub's host:port. What a proxy says is a *ProxyError.
func (r Road) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	proxy, err := r.By(address)
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	host, port := ProxyAddress(proxy)
	e := &ProxyError{Proxy: net.JoinHostPort(host, port), Target: address}
	if proxy.Scheme != "http" && proxy.Scheme != "https" {
		return nil, fmt.Errorf("the proxy %s of the environment is one of %s: the hub is called through an HTTP proxy alone, name one in hub.proxy of edge.yaml, or none", proxy.Host, proxy.Scheme)
	}
	login, err := r.login(proxy.User)
	if err != nil {
		return nil, fmt.Errorf("the password for the proxy %s can't be read: %w", e.Proxy, err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, e.Proxy)
	if err != nil {
		e.Cause = err
		return nil, e
	}
	if proxy.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12})
	}
	hung := context.AfterFunc(ctx, func() { _ = conn.Close() })
	way, err := e.connect(conn, login)
	if !hung() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close() // nothing was asked of the hub
		if late := ctx.Err(); late != nil && e.Status == 0 {
			e.Cause = late
		}
		return nil, e
	}
	return way, nil
}

// login is what a proxy is told of a user; empty: nothing.
func (r Road) login(user *url.Userinfo) (string, error) {
	if user == nil {
		return "", nil
	}
	secret, _ := user.Password()
	if r.PasswordFile != "" {
		f, err := os.OpenFile(r.PasswordFile, os.O_RDONLY|syscall.O_NONBLOCK, 0) // of a pipe nobody writes to it waits for nobody
		if err != nil {
			return "", err
		}
		defer f.Close() //nolint:errcheck // it was read only
		b, err := io.ReadAll(io.LimitReader(f, maxPassword))
		if err != nil {
			return "", err
		}
		secret = strings.TrimRight(string(b), "\r\n")
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+secret)), nil
}

// ProxyError is why a proxy gives no way to a hub, or can't be asked for one.
type ProxyError struct {
	Proxy, Target string // host:port
	Status        int    // of its answer; 0: there is none
	Offers        string // the logins that it takes, as "basic, ntlm"
	Login         bool   // it was given one
	Cause         error  // nil: it has answered
}

// Unwrap gives the cause.
func (e *ProxyError) Unwrap() error { return e.Cause }

func (e *ProxyError) Error() string {
	switch {
	case e.Cause != nil:
		return fmt.Sprintf("the proxy %s does not answer: %v", e.Proxy, e.Cause)
	case e.Status == http.StatusProxyAuthRequired && e.Login:
		return fmt.Sprintf("407 from proxy %s: it does not take the login that it is given (it takes %s)", e.Proxy, e.offers())
	case e.Status == http.StatusProxyAuthRequired:
		return fmt.Sprintf("407 from proxy %s: it wants a login (%s)", e.Proxy, e.offers())
	case slices.Contains(unreachedBehind(), e.Status):
		return fmt.Sprintf("%d from proxy %s: it does not reach %s itself", e.Status, e.Proxy, e.Target)
	}
	return fmt.Sprintf("%d from proxy %s: it lets nobody, or not this gateway, through to %s", e.Status, e.Proxy, e.Target)
}

// unreachedBehind are the answers of a proxy that was willing.
func unreachedBehind() []int {
	return []int{http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}
}

func (e *ProxyError) offers() string {
	if e.Offers == "" {
		return "it doesn't say which"
	}
	return e.Offers
}

// Fix is what helps.
func (e *ProxyError) Fix() string {
	switch {
	case e.Cause != nil:
		return "check hub.proxy of edge.yaml, else HTTPS_PROXY of the environment, and that the proxy is up"
	case e.Status == http.StatusProxyAuthRequired && !strings.Contains(e.Offers, "basic"):
		return "ask IT to let this gateway through without a login, or by Basic: it speaks no other login of a proxy"
	case e.Status == http.StatusProxyAuthRequired && e.Login:
		return "correct the user in hub.proxy of edge.yaml (else in HTTPS_PROXY), or the password in the file of hub.proxy_password_file"
	case e.Status == http.StatusProxyAuthRequired:
		return "name its user in edge.yaml, hub.proxy: http://USER@" + e.Proxy + ", and a file with the password, hub.proxy_password_file (of enroll: --proxy, --proxy-password-file); they go before HTTPS_PROXY. Or ask IT to let this gateway through without a login"
	case slices.Contains(unreachedBehind(), e.Status):
		return "is the address in edge.yaml right, and the hub up? The proxy looks its name up, and must reach it"
	}
	return "ask IT to let this gateway through to " + e.Target + " (CONNECT) at the proxy: plantmesh-edge check --firewall prints what to ask for"
}

// connect asks for a way to the hub. What of it came with the answer is not lost: a server
// of NATS speaks first.
func (e *ProxyError) connect(conn net.Conn, login string) (net.Conn, error) {
	ask := "CONNECT " + e.Target + " HTTP/1.1\r\nHost: " + e.Target + "\r\nUser-Agent: plantmesh-edge\r\n"
	if e.Login = login != ""; e.Login {
		ask += "Proxy-Authorization: " + login + "\r\n"
	}
	if _, err := io.WriteString(conn, ask+"\r\n"); err != nil {
		e.Cause = err
		return nil, e
	}
	said := bufio.NewReader(io.LimitReader(conn, maxProxyAnswer))
	answer, err := http.ReadResponse(said, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // see below
	if err != nil {
		e.Cause = fmt.Errorf("it says nothing that a proxy would: %w", brief(err))
		return nil, e
	}
	// What a length says of an answer that gives way is to be ignored (RFC 9110 §9.3.6), and
	// the text of another is of no use: so the body is never read, and closing would read it.
	if e.Status = answer.StatusCode; e.Status >= 200 && e.Status < 300 {
		early, err := said.Peek(said.Buffered())
		if err != nil {
			e.Cause = err
			return nil, e
		}
		return &way{Conn: conn, said: io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn)}, nil
	}
	var offers []string
	for _, o := range answer.Header.Values("Proxy-Authenticate") {
		kind, _, _ := strings.Cut(o, " ")
		offers = append(offers, named(strings.ToLower(kind), ""))
	}
	e.Offers = strings.Join(offers[:min(len(offers), 5)], ", ")
	return nil, e
}

// brief is an error that quotes what a stranger said, no longer than a line of a log may be.
func brief(err error) error {
	const most = 200
	said := err.Error()
	if len(said) <= most {
		return err
	}
	return errors.New(strings.ToValidUTF8(said[:most], "") + "…")
}

// way is a connection through a proxy.
type way struct {
	net.Conn

	said io.Reader
}

// Read implements net.Conn.
func (w *way) Read(b []byte) (int, error) { return w.said.Read(b) }

// dialFunc implements nats.CustomDialer.
type dialFunc func(network, address string) (net.Conn, error)

// Dial implements nats.CustomDialer.
func (f dialFunc) Dial(network, address string) (net.Conn, error) { return f(network, address) }

// dialer dials for a client of NATS until ctx ends. The client bounds all that follows but
// the handshake of a WebSocket's TLS: within is for that, too, and the client takes it back.
func (r Road) dialer(ctx context.Context, within time.Duration) dialFunc {
	return func(network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		conn, err := r.Dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
			_ = conn.Close() // nothing was said
			return nil, fmt.Errorf("bound a handshake: %w", err)
		}
		return conn, nil
	}
}
