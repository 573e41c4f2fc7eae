package hub

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/cloud/registry"
	"plantmesh/proto/strict"
	"plantmesh/proto/systemd"
)

// Config is hub.yaml. Its comments are the manual; zero fields mean the
// defaults named here. Relative paths count from the file's own folder. The
// environment goes first, see envPrefix.
type Config struct {
	// Data is the folder of everything the hub keeps: streams, database, keys.
	Data string `yaml:"data"`
	// SiteFile holds the site's calendar, ideal rates and mapping. It is read
	// at start; a changed file becomes a new fact.
	SiteFile string `yaml:"site_file"`
	// NATS is where agents connect.
	NATS NATSConfig `yaml:"nats"`
	// HTTP is where people and programs read products.
	HTTP HTTPConfig `yaml:"http"`
	// Ingest is how agents are answered.
	Ingest IngestConfig `yaml:"ingest"`
	// Identity is what agents are let in with.
	Identity IdentityConfig `yaml:"identity"`
	// History is how the samples themselves are kept.
	History HistoryConfig `yaml:"history"`
	// Watch is how often the hub looks whether its own pipe works.
	Watch WatchConfig `yaml:"watch"`
	// PlantClock is the plant clock's file in a demo; empty: the wall clock.
	PlantClock string `yaml:"plant_clock"`

	// Manager is told how the hub is; zero: nobody is.
	Manager systemd.Manager `yaml:"-"`
}

// NATSConfig is the embedded NATS server.
type NATSConfig struct {
	// Listen is host:port; the default is 127.0.0.1:4222. Beyond loopback it needs
	// a hub that has users, as http.listen does; it is TLS always, by the hub's own
	// authority, which agents know with their token.
	Listen string `yaml:"listen"`
	// Announce is what agents are told at enrolment as their hub.url, where that is not
	// this listener under the name they called: as nats://hub.example.com:4222, or
	// wss://hub.example.com for what WebSocket listens at. An agent that asked through
	// a proxy is told the WebSocket, where there is one, whatever stands here.
	Announce string `yaml:"announce"`
	// WebSocket is a second listener, for networks that let nothing out but HTTPS.
	WebSocket WebSocketConfig `yaml:"websocket"`
	// MaxStore bounds what streams may take on disk; default 10GiB. A full
	// store pushes back on the agents, which go on buffering.
	MaxStore strict.Size `yaml:"max_store"`
	// Ping is how often a connection is asked whether it lives; default 15s. A
	// half-open one is noticed after two missed answers.
	Ping strict.Duration `yaml:"ping"`
	// CheckEvery is how often the streams are looked at, and opened anew where
	// the disk refused them and takes writes again; default 5s.
	CheckEvery strict.Duration `yaml:"check_every"`
	// SyncInterval is always (the default: every message is on the disk before it
	// is acknowledged) or a time. With a time a power cut takes what is younger
	// out of the stream: the agents send it again, as receipts never rest on it.
	SyncInterval string `yaml:"sync_interval"`

	syncEvery time.Duration // 0: always
}

// IngestConfig is how agents are answered. What is shorter costs more messages.
type IngestConfig struct {
	// ReceiptEvery is how often every agent's receipt is repeated; default 5s.
	ReceiptEvery strict.Duration `yaml:"receipt_every"`
	// PurgeEvery is how often what is stored is removed from the stream; default 10s.
	PurgeEvery strict.Duration `yaml:"purge_every"`
	// ForkAfter is how long one branch of an agent's log must be silent before
	// another is taken for a disk that was put back, not for a clone; default 5m.
	ForkAfter strict.Duration `yaml:"fork_after"`
}

// IdentityConfig is what agents are let in with.
type IdentityConfig struct {
	// Lifetime is how long an agent's token is good for; default 168h. It is renewed
	// from a third of that on, so an agent may be cut off for two thirds. One whose
	// token has ended asks again at hub.enroll of its edge.yaml.
	Lifetime strict.Duration `yaml:"lifetime"`
	// Calls is how often strangers may ask to be let in, all together, a second;
	// default 50.
	Calls int `yaml:"calls"`
	// KeyFile holds the key that the hub's own keys are encrypted with on the disk; it is
	// made where it is not there, and must not lie in the data folder, whose backups it
	// opens: keep it apart from them, and safe, as without it a backup has no keys.
	// Default: none, and the keys are protected by the rights of their files alone.
	KeyFile string `yaml:"key_file"`
}

const (
	defaultLifetime = 7 * 24 * time.Hour
	defaultCalls    = 50
	mostCalls       = 10_000
)

func (c *IdentityConfig) complete(doc *strict.Doc) error {
	if c.Lifetime == 0 {
		c.Lifetime = strict.Duration(defaultLifetime)
	}
	if c.Calls == 0 {
		c.Calls = defaultCalls
	}
	switch {
	case time.Duration(c.Lifetime) < registry.MinLifetime || time.Duration(c.Lifetime) > registry.MaxLifetime:
		return doc.Fault("$.identity.lifetime", "between %s and %s is allowed", registry.MinLifetime, registry.MaxLifetime)
	case c.Calls < 1 || c.Calls > mostCalls:
		return doc.Fault("$.identity.calls", "between 1 and %d is allowed", mostCalls)
	}
	return nil
}

// HTTPConfig is the hub's HTTP server.
type HTTPConfig struct {
	// Listen is host:port; the default is 127.0.0.1:8080. Beyond loopback, as
	// 0.0.0.0:8443, it is HTTPS, and needs a hub that has users: plantmesh users add
	// makes the first. While there is none, whoever is on this machine may read all;
	// from the first on nobody may anything without an account or a token.
	Listen string `yaml:"listen"`
	// TLS is HTTPS on loopback, too; default false.
	TLS bool `yaml:"tls"`
	// Names are the host names that people call this hub by, the first of them in
	// links. Requests for others are refused, and the certificate that the hub makes
	// holds them.
	Names []string `yaml:"names"`
	// CertFile and KeyFile are a certificate and its key of your own, in PEM, read
	// again when they change. Default: the hub signs one by its own authority
	// (plantmesh authority prints that), and makes it anew in time.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// MaxConnections bounds those open at once; default 1000. More wait.
	MaxConnections int `yaml:"max_connections"`
}

const (
	defaultConnections = 1000
	mostConnections    = 100_000
	mostNames          = 20
)

func (c *HTTPConfig) complete(doc *strict.Doc) error {
	if c.MaxConnections == 0 {
		c.MaxConnections = defaultConnections
	}
	if c.MaxConnections < 10 || c.MaxConnections > mostConnections {
		return doc.Fault("$.http.max_connections", "between 10 and %d is allowed", mostConnections)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return doc.Fault("$.http", "cert_file and key_file go together: write both, or none for a certificate of the hub's own")
	}
	if len(c.Names) > mostNames {
		return doc.Fault("$.http.names", "at most %d names", mostNames)
	}
	for i, name := range c.Names {
		if c.Names[i] = strings.ToLower(name); !isHost(c.Names[i]) {
			return doc.Fault(fmt.Sprintf("$.http.names[%d]", i), "%q is no host name such as hub.example.com", name)
		}
	}
	if c.CertFile == "" || !c.Secure() {
		return nil
	}
	if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
		return doc.Fault("$.http.cert_file", "%s with %s: %s", c.CertFile, c.KeyFile, strict.Unreadable(err))
	}
	return nil
}

func isHost(s string) bool {
	return len(s) <= 253 && regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`).MatchString(s)
}

// Secure says whether the listener is HTTPS.
func (c *HTTPConfig) Secure() bool { return c.TLS || !isLoopback(c.Listen) }

// Address is where people find the hub's page.
func (c *HTTPConfig) Address() string {
	scheme := "http"
	if c.Secure() {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(c.Listen) // it was checked
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host, _ = os.Hostname(); host == "" {
			host = "localhost"
		}
	}
	if len(c.Names) > 0 {
		host = c.Names[0]
	}
	if scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		return scheme + "://" + host
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// WatchConfig is how often the hub looks at what agents send through.
type WatchConfig struct {
	// Canary is how often the hub sends a message of its own the way of the
	// agents' records, up to the database; default 10s. One that doesn't come back
	// is told at /readyz, the stream is read through a new session, and from the
	// third on the embedded server is started anew.
	Canary strict.Duration `yaml:"canary"`
	// Stream is how often the ingest stream's configuration is looked at; default
	// 1m. What somebody changed is set right or refused, and told.
	Stream strict.Duration `yaml:"stream"`
}

const (
	defaultCanary = 10 * time.Second
	defaultStream = time.Minute
	// minWatch: a canary costs a synced write of the stream and one of the database.
	minWatch = time.Second
)

func (c *WatchConfig) complete(doc *strict.Doc) error {
	for _, f := range []struct {
		at   string
		v    *strict.Duration
		rule time.Duration
	}{{"canary", &c.Canary, defaultCanary}, {"stream", &c.Stream, defaultStream}} {
		if *f.v == 0 {
			*f.v = strict.Duration(f.rule)
		}
		if *f.v < strict.Duration(minWatch) {
			return doc.Fault("$.watch."+f.at, "at least 1s is needed")
		}
	}
	return nil
}

const (
	defaultNATS     = "127.0.0.1:4222"
	defaultHTTP     = "127.0.0.1:8080"
	defaultMaxStore = 10 << 30
	// minMaxStore is the least that still holds the streams' own overhead.
	minMaxStore = 64 << 20

	defaultPing         = 15 * time.Second
	defaultCheckEvery   = 5 * time.Second
	defaultReceiptEvery = 5 * time.Second
	defaultPurgeEvery   = 10 * time.Second
	defaultForkAfter    = 5 * time.Minute
	// minTimer: less would be work without end.
	minTimer = 100 * time.Millisecond
)

// envPrefix begins the variables that are laid over hub.yaml:
// PLANTMESH_HUB_HTTP__LISTEN=127.0.0.1:8081 is listen of http.
const envPrefix = "PLANTMESH_HUB_"

// LoadConfig reads and checks hub.yaml and the site file it names. Its errors
// are one line for people.
func LoadConfig(path string) (c Config, err error) {
	doc, err := strict.Load(path, &c, strict.Env(envPrefix, os.Environ()))
	if err != nil {
		return c, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return c, doc.Fault("$", "where is this file? %v", err)
	}
	return c, c.complete(doc, filepath.Dir(abs))
}

func (c *Config) complete(doc *strict.Doc, base string) error {
	if c.NATS.Listen == "" {
		c.NATS.Listen = defaultNATS
	}
	if c.HTTP.Listen == "" {
		c.HTTP.Listen = defaultHTTP
	}
	if c.NATS.MaxStore == 0 {
		c.NATS.MaxStore = defaultMaxStore
	}
	for _, f := range []struct{ at, value string }{{"data", c.Data}, {"site_file", c.SiteFile}} {
		if f.value == "" {
			return doc.Fault("$."+f.at, "%s is missing", f.at)
		}
	}
	for _, p := range []*string{&c.Data, &c.SiteFile, &c.PlantClock, &c.HTTP.CertFile, &c.HTTP.KeyFile, &c.NATS.WebSocket.CertFile, &c.NATS.WebSocket.KeyFile, &c.Identity.KeyFile} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(base, *p)
		}
	}
	if rel, err := filepath.Rel(c.Data, c.Identity.KeyFile); c.Identity.KeyFile != "" && err == nil && filepath.IsLocal(rel) {
		return doc.Fault("$.identity.key_file", "it lies in the data folder: a backup would hold what opens it")
	}
	for _, complete := range []func(*strict.Doc) error{c.listens, c.HTTP.complete, func(doc *strict.Doc) error { return c.NATS.WebSocket.complete(doc, c.HTTP.Secure()) }, c.timers, c.Identity.complete, c.History.complete, c.Watch.complete} {
		if err := complete(doc); err != nil {
			return err
		}
	}
	if c.NATS.MaxStore < minMaxStore {
		return doc.Fault("$.nats.max_store", "at least 64MiB are needed")
	}
	if _, err := os.Stat(c.PlantClock); c.PlantClock != "" && err != nil {
		return doc.Fault("$.plant_clock", "%s: %s", c.PlantClock, strict.Unreadable(err))
	}
	src, err := os.ReadFile(c.SiteFile)
	if err != nil {
		return doc.Fault("$.site_file", "%s: %s", c.SiteFile, strict.Unreadable(err))
	}
	_, err = product.ParseSite(c.SiteFile, src)
	return err
}

// listens checks the addresses of the listeners.
func (c *Config) listens(doc *strict.Doc) error {
	for _, f := range []struct{ at, listen string }{{"$.nats.listen", c.NATS.Listen}, {"$.nats.websocket.listen", c.NATS.WebSocket.Listen}, {"$.http.listen", c.HTTP.Listen}} {
		if f.listen == "" {
			continue // the WebSocket alone may be left out
		}
		if err := address(f.listen); err != "" {
			return doc.Fault(f.at, "%s", err)
		}
	}
	if c.NATS.Announce == "" {
		return nil
	}
	if err := announceable(c.NATS.Announce); err != nil {
		return doc.Fault("$.nats.announce", "%q: %v", c.NATS.Announce, err)
	}
	return nil
}

// timers fills in and checks the times of the streams.
func (c *Config) timers(doc *strict.Doc) error {
	for _, f := range []struct {
		at string
		d  *strict.Duration
		by time.Duration
	}{
		{"$.nats.ping", &c.NATS.Ping, defaultPing},
		{"$.nats.check_every", &c.NATS.CheckEvery, defaultCheckEvery},
		{"$.ingest.receipt_every", &c.Ingest.ReceiptEvery, defaultReceiptEvery},
		{"$.ingest.purge_every", &c.Ingest.PurgeEvery, defaultPurgeEvery},
		{"$.ingest.fork_after", &c.Ingest.ForkAfter, defaultForkAfter},
	} {
		if *f.d == 0 {
			*f.d = strict.Duration(f.by)
		}
		if *f.d < strict.Duration(minTimer) {
			return doc.Fault(f.at, "at least %s is needed", minTimer)
		}
	}
	if c.NATS.SyncInterval == "" || c.NATS.SyncInterval == "always" {
		return nil
	}
	d, err := time.ParseDuration(c.NATS.SyncInterval)
	if err != nil || d <= 0 {
		return doc.Fault("$.nats.sync_interval", "%q is neither always nor a time such as 2m", c.NATS.SyncInterval)
	}
	c.NATS.syncEvery = d
	return nil
}

// address says in words why something is no address to listen on; empty: it is.
func address(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return strconv.Quote(listen) + " is no host:port such as 127.0.0.1:8080"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return strconv.Quote(port) + " is no port"
	}
	if host != "" && host != "localhost" && net.ParseIP(host) == nil {
		return strconv.Quote(host) + " is no address of this machine: write one such as 127.0.0.1, or 0.0.0.0 for all of them"
	}
	return ""
}
