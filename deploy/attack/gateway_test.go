package attack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"plantmesh/cloud/registry"
)

// field is a gateway whose agent runs, and a device that tells it numbers.
type field struct {
	t      *testing.T
	r      *rig
	edge   string // edge.yaml
	device string // where the agent listens for it
	of     string // the token of who reads
	said   *said
	cmd    *exec.Cmd
	told   int // numbers the agent has answered for
	last   int64
}

// newField has a gateway let in by a one-time key, and starts its agent. More files of it may
// be given.
func newField(t *testing.T, r *rig, also ...map[string]string) *field {
	t.Helper()
	dir := t.TempDir()
	f := &field{t: t, r: r, edge: filepath.Join(dir, "edge.yaml"), of: r.person(t, "viewer").token, said: &said{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	f.device = l.Addr().String()
	check(t, l.Close())
	_, key := r.invite(t, registry.Invite{})
	check(t, os.MkdirAll(filepath.Join(dir, "sources.d"), 0o700))
	for _, more := range also {
		for name, text := range more {
			check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
	}
	for name, text := range map[string]string{
		"key": key, "ca.pem": r.reg.Authority(), "sources.d/press.pass": "a secret of its own",
		"sources.d/press.yaml": fmt.Sprintf(`mqtt_listener:
  id: line1-press
  listen: %s
  devices: [{user: press, password_file: press.pass, publish: [plant/#]}]
  topics: [{filter: "plant/{machine}", signal: "line1.{machine}.{key}", time: ts}]
  signals: [{name: line1.press.number, type: int, max_silence: 1m}]
`, f.device),
	} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	args := append([]string{"enroll", "--config", f.edge, "--agent", "gw-1", "--key-file", filepath.Join(dir, "key"), "--ca", filepath.Join(dir, "ca.pem"), r.page}, r.asks...)
	cmd := exec.Command(filepath.Join(programs, "plantmesh-edge"), args...)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("enroll: %v\n%s", err, said)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent said:\n%.8000s", f.said)
		}
	})
	f.starts()
	return f
}

func (f *field) starts() {
	f.t.Helper()
	f.cmd = exec.Command(filepath.Join(programs, "plantmesh-edge"), "run", "--config", f.edge)
	f.cmd.Stderr = f.said
	check(f.t, f.cmd.Start())
	f.t.Cleanup(func() {
		_ = f.cmd.Process.Kill()
		_ = f.cmd.Wait()
	})
}

func (f *field) stops() {
	f.t.Helper()
	check(f.t, f.cmd.Process.Signal(os.Interrupt))
	check(f.t, f.cmd.Wait())
}

// says counts a text in what the agent says.
func (f *field) says(text string) int { return strings.Count(f.said.String(), text) }

// tell tells the agent the next numbers, until it has answered for them: MQTT 3.1.1,
// QoS 1.
func (f *field) tell(n int) {
	f.t.Helper()
	var c net.Conn
	until(f.t, "the agent listens for its device", func() (ok bool) {
		var err error
		c, err = net.Dial("tcp", f.device)
		return err == nil
	})
	defer c.Close()
	check(f.t, c.SetDeadline(time.Now().Add(within)))
	text := func(b []byte, s string) []byte { return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...) }
	packet := func(head byte, body []byte) {
		_, err := c.Write(append(binary.AppendUvarint([]byte{head}, uint64(len(body))), body...)) // the coding is MQTT's too
		check(f.t, err)
	}
	answered := func() {
		var a [4]byte
		_, err := io.ReadFull(c, a[:])
		check(f.t, err)
	}
	packet(0x10, text(text(text([]byte("\x00\x04MQTT\x04\xc2\x00\x3c"), "press"), "press"), "a secret of its own"))
	answered()
	for range n {
		f.last = max(f.last+1, time.Now().UnixMilli())
		packet(0x32, fmt.Appendf(append(text(nil, "plant/press"), 0, 1), `{"ts":%d,"number":%d}`, f.last, f.told+1))
		answered()
		f.told++
	}
}

// arrived waits until the hub has each number that the agent has answered for, and fails
// where it has one twice.
func (f *field) arrived() {
	f.t.Helper()
	var want, got []string
	for n := range f.told {
		want = append(want, strconv.Itoa(n+1))
	}
	until(f.t, "the hub has all numbers", func() bool {
		a := f.r.ask(f.t, "127.0.15.1", http.MethodGet, "/api/v1/products/signals/rows?fields=value&format=csv&equipment=line1-press", "", by(person{token: f.of}))
		got = strings.Fields(a.body)
		return a.status == http.StatusOK && len(got) > len(want) // its head
	})
	if got = got[1:]; !slices.Equal(got, want) {
		f.t.Errorf("the hub has %v, want 1 to %d, each once", got, f.told)
	}
}

// TestAttack_S06: a token is renewed from a third of its life on. Where the hub is away
// beyond its end the agent keeps everything, and comes in again by itself.
func TestAttack_S06(t *testing.T) {
	t.Parallel()
	const life = 10 * time.Second
	r := newRig(t, "identity: {lifetime: 10s}")
	f := newField(t, r)
	began := time.Now()
	f.tell(3)
	until(t, "the token is renewed", func() bool { return f.says("has renewed this agent's token") > 0 })
	if took := time.Since(began); took > life*2/3 {
		t.Errorf("renewed after %s of a life of %s", took, life)
	}
	f.arrived()
	r.stops(t)
	away := time.Now()
	until(t, "the token has ended", func() bool {
		if f.told < 10 {
			f.tell(1)
		}
		return time.Since(away) > life+time.Second
	})
	f.tell(3) // it collects as before
	before := f.says("state=connected") + f.says(`state="connected again"`)
	r.starts(t)
	until(t, "the agent is in again", func() bool { return f.says("state=connected")+f.says(`state="connected again"`) > before })
	f.tell(3)
	f.arrived()
	t.Logf("%d numbers, each once; the hub was away for %s", f.told, time.Since(away).Round(time.Second))
}

// TestAttack_S06Registry: the hub runs and its registry alone can't be read. What agents say is
// taken as long as their tokens last; renewing is tried again and again, nobody is refused for
// it; beyond the end the agent keeps everything, and comes in by itself when it is back.
func TestAttack_S06Registry(t *testing.T) {
	t.Parallel()
	const life = 10 * time.Second
	r := newRig(t, "identity: {lifetime: 10s}")
	f := newField(t, r)
	f.tell(3)
	until(t, "the token is renewed", func() bool { return f.says("has renewed this agent's token") > 0 })
	agents := filepath.Join(r.cfg.Data, "registry", "agents")
	check(t, os.Rename(agents, agents+".away"))
	check(t, os.WriteFile(agents, nil, 0o600))
	away, renewed := time.Now(), f.says("has renewed this agent's token")
	f.tell(3)
	f.arrived() // the token lasts
	until(t, "the token has ended", func() bool { return time.Since(away) > life+time.Second })
	refused := strings.Count(r.said.String(), "an agent's token is not renewed")
	kept := f.told
	f.tell(5)
	switch {
	case refused < 2:
		t.Errorf("it was tried to renew the token %d times", refused)
	case f.says("has renewed this agent's token") > renewed+1: // one may have been on its way
		t.Error("a token is renewed by a registry that is away")
	case f.says("its registry now") == 0:
		t.Error("the agent is not told why its token is not renewed")
	case f.says("lets this agent in no more") > 0:
		t.Error("an agent is refused because nothing is known of anybody")
	}
	a := r.ask(t, "127.0.15.1", http.MethodGet, "/api/v1/products/signals/rows?fields=value&format=csv&equipment=line1-press", "", by(person{token: f.of}))
	if got := strings.Fields(a.body); len(got) > kept+1 { // and its head
		t.Errorf("the hub takes %d numbers of an agent whose token has ended, after %d", len(got)-1, kept)
	}
	before := f.says("state=connected") + f.says(`state="connected again"`)
	check(t, os.Remove(agents))
	check(t, os.Rename(agents+".away", agents))
	until(t, "the agent is in again", func() bool { return f.says("state=connected")+f.says(`state="connected again"`) > before })
	f.tell(3)
	f.arrived()
}

// TestAttack_S07: a certificate that ends is told before, refused in words behind its end,
// and another one is taken while all goes on; agents know their hub by its authority, and
// notice nothing. Those of OPC UA: edge/agent and edge/source/opcua/trust.
func TestAttack_S07(t *testing.T) {
	t.Parallel()
	r := newHub(t)
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	now := time.Now()
	r.certify(t, cert, key, now.Add(20*time.Hour))
	r.env = []string{"PLANTMESH_HUB_HTTP__CERT_FILE=" + cert, "PLANTMESH_HUB_HTTP__KEY_FILE=" + key}
	r.begins(t)
	f := newField(t, r)
	f.tell(3)
	if said := r.said.String(); !strings.Contains(said, "a certificate of your own ends") || !strings.Contains(said, "days_left=0") {
		t.Errorf("the hub does not say that its certificate ends")
	}
	until(t, "the agent is in", func() bool { return f.says("state=connected") > 0 })
	asks := func() string {
		said, _ := exec.Command(filepath.Join(programs, "plantmesh-edge"), "enroll", "--config", filepath.Join(t.TempDir(), "edge.yaml"), "--agent", "gw-2", "--wait", "0s", "--ca", filepath.Join(filepath.Dir(f.edge), "ca.pem"), r.page).CombinedOutput() // how it ends it says
		return string(said)
	}
	r.certify(t, cert, key, now.Add(-time.Hour))
	until(t, "who asks is told that the certificate has ended", func() bool { return strings.Contains(asks(), "is not valid now: it is from ") })
	f.tell(3)
	r.certify(t, cert, key, now.AddDate(1, 0, 0))
	until(t, "the next certificate is shown", func() bool { return strings.Contains(asks(), "nobody has let this gateway in yet") })
	f.tell(3)
	f.arrived()
	if n := f.says("lost"); n > 0 {
		t.Errorf("the agent has lost its connection %d times", n)
	}
}

// certify brings a certificate of the hub's own authority, good until a time.
func (r *rig) certify(t *testing.T, cert, key string, until time.Time) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(r.cfg.Data, "registry", "keys.json"))
	check(t, err)
	var keys struct {
		Authority string `json:"authority"`
		Key       string `json:"authority_key"`
	}
	check(t, json.Unmarshal(b, &keys))
	ca, err := tls.X509KeyPair([]byte(keys.Authority), []byte(keys.Key))
	check(t, err)
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(until.UnixNano()), NotBefore: until.AddDate(-2, 0, 0), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca.Leaf, own.Public(), ca.PrivateKey)
	check(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(own)
	check(t, err)
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		check(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	}
}

// TestAttack_S12: the key that signs agents' tokens was stolen. It is replaced: who came in
// by it is out within five seconds, the agents come in by themselves, also one that was off
// meanwhile, and nothing is lost.
func TestAttack_S12(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	f := newField(t, r)
	f.tell(3)
	thief := stolen(t, r)
	closed := make(chan struct{})
	nc, err := r.dial(t, "gw-9", thief, nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	check(t, err)
	defer nc.Close()
	until(t, "the agent is in", func() bool { return f.says("state=connected") > 0 })

	rotate := func() {
		if said, err := exec.Command(filepath.Join(programs, "plantmesh"), "agents", "rotate", "--config", r.yaml, "--revoke-old", "now", "--reason", "a drill").CombinedOutput(); err != nil {
			t.Fatalf("rotate: %v\n%s", err, said)
		}
	}
	began := time.Now()
	rotate()
	f.tell(3)
	select {
	case <-closed:
		t.Logf("the thief is out after %s", time.Since(began).Round(time.Millisecond))
	case <-time.After(5 * time.Second):
		t.Error("a token of the stolen key is good after 5 s")
	}
	if again, err := r.dial(t, "gw-9", thief); err == nil {
		again.Close()
		t.Error("the thief comes in again")
	}
	until(t, "the agent has a token of the new key, and is in", func() bool {
		return f.says("has renewed this agent's token") > 0 && f.says(`state="connected again"`) > 0
	})
	f.tell(3)
	f.arrived()

	f.stops() // and one that is off meanwhile
	rotate()
	until(t, "the key of before is out", func() bool { return r.signers(t) == 1 })
	renewals := f.says("has renewed this agent's token")
	f.starts()
	until(t, "the agent has asked for another token", func() bool { return f.says("has renewed this agent's token") > renewals })
	f.tell(3)
	f.arrived()
}

// signers is how many keys' tokens are good.
func (r *rig) signers(t *testing.T) int {
	t.Helper()
	s, err := r.reg.Signing()
	check(t, err)
	return len(s.Good(time.Now()))
}

// stolen is a token of a thief who has read the key that signs agents' tokens.
func stolen(t *testing.T, r *rig) nats.Option {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(r.cfg.Data, "registry", "keys.json"))
	check(t, err)
	var keys struct {
		Seed string `json:"agent_signing_seed"`
	}
	check(t, json.Unmarshal(b, &keys))
	signer, err := nkeys.FromSeed([]byte(keys.Seed))
	check(t, err)
	g := newGateway(t)
	c := jwt.NewUserClaims(g.pub)
	c.Name, c.IssuerAccount = "gw-9", r.reg.Trust.PlantKey
	c.SetScoped(true)
	c.Tags.Add("site:graz")
	token, err := c.Encode(signer)
	check(t, err)
	return nats.UserJWTAndSeed(token, g.seed)
}
