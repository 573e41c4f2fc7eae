package hub

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// pageAt is where the page is, of the address that is listened on.
func (h *hub) pageAt(listens string) string {
	at := h.cfg.HTTP
	host, _, err := net.SplitHostPort(at.Listen)
	_, port, err2 := net.SplitHostPort(listens)
	if err == nil && err2 == nil {
		at.Listen = net.JoinHostPort(host, port)
	}
	return at.Address()
}

// serve serves until srv is shut down: HTTPS wherever others could listen on the way.
func (h *hub) serve(srv *http.Server, l net.Listener) error {
	if !h.cfg.HTTP.Secure() {
		return srv.Serve(l)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	certifier, err := h.reg.Certifier(time.Now, certified(&h.cfg.HTTP)...)
	if err != nil {
		return err
	}
	c.GetCertificate = certifier.Config().GetCertificate
	if h.cfg.HTTP.CertFile != "" {
		own := &brought{what: "https", cert: h.cfg.HTTP.CertFile, key: h.cfg.HTTP.KeyFile, now: time.Now, log: h.log}
		if _, err := own.certificate(nil); err != nil {
			return err
		}
		c.GetCertificate = eachTheirs(own, c.GetCertificate)
	}
	srv.TLSConfig = c
	return srv.ServeTLS(l, "", "")
}

// certified are the names that a certificate of the hub's own holds: those it is called
// by, and the addresses that it listens on.
func certified(c *HTTPConfig) []string {
	names := append([]string{}, c.Names...)
	host, _, _ := net.SplitHostPort(c.Listen) // it was checked
	ip := net.ParseIP(host)
	if host != "" && (ip == nil || !ip.IsUnspecified()) {
		return append(names, host)
	}
	if name, err := os.Hostname(); err == nil && isHost(strings.ToLower(name)) {
		names = append(names, strings.ToLower(name))
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return names // those it was given are enough
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			names = append(names, n.IP.String())
		}
	}
	return names
}

// lookAgain is how often it is looked whether a certificate's files have changed.
const lookAgain = 10 * time.Second

// brought is a certificate of the user's own. What can't be read leaves the one before in
// place: renewals write two files, one after the other. Safe for concurrent use.
type brought struct {
	what      string // it is for
	cert, key string
	now       func() time.Time
	log       *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	looked time.Time
	read   [2]string // what the files were
	told   int       // the nearest of warnedDays that its end was told at; 0: none
}

// warnedDays before its end a certificate is told, the last first.
func warnedDays() []int { return []int{1, 7, 30} }

// ending tells that the certificate ends, once at each of those days.
func (b *brought) ending(now time.Time) {
	left := b.pair.Leaf.NotAfter.Sub(now)
	for _, days := range warnedDays() {
		if left > time.Duration(days)*24*time.Hour {
			continue
		}
		if b.told == 0 || days < b.told {
			b.told = days
			b.log.Warn("a certificate of your own ends: renew it; its files are read again by themselves", "for", b.what, "file", b.cert, "until", b.pair.Leaf.NotAfter, "days_left", int(left.Hours()/24))
		}
		return
	}
}

// certificate implements GetCertificate of tls.Config.
func (b *brought) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if b.pair != nil && now.Sub(b.looked) < lookAgain {
		return b.pair, nil
	}
	b.looked = now
	is, err := b.files()
	if err == nil && b.pair != nil && is == b.read {
		b.ending(now)
		return b.pair, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(b.cert, b.key)
	}
	switch {
	case err != nil && b.pair == nil:
		return nil, fmt.Errorf("read the certificate for %s: %w", b.what, err)
	case err != nil:
		b.log.Warn("a certificate of your own can't be read again; the one before is shown", "for", b.what, "file", b.cert, "err", err)
		return b.pair, nil
	}
	if b.pair != nil {
		b.log.Info("a certificate of your own is another", "for", b.what, "file", b.cert, "until", pair.Leaf.NotAfter)
	}
	b.pair, b.read, b.told = &pair, is, 0
	b.ending(now)
	return b.pair, nil
}

// files is what the two files are now.
func (b *brought) files() (is [2]string, err error) {
	for i, path := range []string{b.cert, b.key} {
		info, err := os.Stat(path)
		if err != nil {
			return is, fmt.Errorf("look at a certificate: %w", err)
		}
		is[i] = fmt.Sprint(info.ModTime().UnixNano(), info.Size())
	}
	return is, nil
}
