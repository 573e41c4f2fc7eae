package forward

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
)

// broker runs a server that syncs every message; port 0 takes a free one.
func broker(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	if port == 0 {
		port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true, NoLog: true})
	check(t, err)
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the broker does not start")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

// hubOn reads the stream and answers as ingest does, until ctx ends.
func hubOn(ctx context.Context, t *testing.T, url string, h *hub, mu *sync.Mutex) {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	check(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	check(t, err)
	st, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: subject.IngestStream, Subjects: []string{subject.IngestAll}, Storage: jetstream.FileStorage})
	check(t, err)
	s := &stream{id: fmt.Sprint("INGEST@", st.CachedInfo().Created.UnixNano())}
	_, err = nc.Subscribe(subject.ResumeAll, func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if err := m.Respond(h.receipt(s)); err != nil {
			t.Error(err)
		}
	})
	check(t, err)
	for seq := uint64(1); ctx.Err() == nil; {
		m, err := st.GetMsg(ctx, seq)
		if err != nil { // not there yet, or the broker is away
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			if !errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
		}
		mu.Lock()
		if err == nil {
			s.messages = append(s.messages, published{m.Subject, m.Data})
			h.read(s)
			seq++
		}
		receipt := h.receipt(s)
		mu.Unlock()
		if err := nc.Publish(subject.Receipt("graz", "gw-1"), receipt); err != nil {
			t.Log(err)
		}
	}
}

func TestNATS_NothingIsLostOverARestartOfTheBroker(t *testing.T) {
	dir := t.TempDir()
	s := broker(t, dir, 0)
	url, port := s.ClientURL(), s.Addr().(*net.TCPAddr).Port
	ctx, cancel := context.WithCancel(t.Context())
	var (
		mu  sync.Mutex
		all sync.WaitGroup
		h   = newHub(t)
		log = newMemory(t)
	)
	defer all.Wait()
	defer cancel()
	all.Go(func() { hubOn(ctx, t, url, h, &mu) })

	link, err := Dial(t.Context(), DialConfig{URL: url, Site: "graz", Agent: "gw-1"}, quiet())
	check(t, err)
	defer func() { check(t, link.Close()) }()
	f := New(Config{Site: "graz", Agent: "gw-1", MaxMessage: 8 << 10}, log, link, func(context.Context, mesh.Record) ([]byte, error) { return nil, nil }, time.Now, quiet())
	all.Go(func() { check(t, f.Run(ctx)) })
	all.Go(func() { check(t, link.Run(ctx, f)) })

	arrived := func(what string) {
		t.Helper()
		_, _, end, err := log.Outset()
		check(t, err)
		for stop := time.Now().Add(60 * time.Second); ; {
			mu.Lock()
			through := h.account.Set.Through
			mu.Unlock()
			if through == end {
				return
			}
			if time.Now().After(stop) {
				t.Fatalf("%s: the hub is contiguous through %s, the log ends at %s, sending: %+v", what, through, end, f.Status())
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	log.batches(200)
	arrived("first")
	s.Shutdown()
	s.WaitForShutdown()
	log.batches(200)
	broker(t, dir, port)
	log.batches(10)
	arrived("after the restart")
}

// TestUntaken_IsInWords: what a technician reads says why nothing goes, and that
// nothing is lost by it.
func TestUntaken_IsInWords(t *testing.T) {
	for want, err := range map[string]error{
		"the hub's stream is full: ":                                 &jetstream.APIError{Code: 503, ErrorCode: 10077, Description: "maximum bytes exceeded"},
		"the hub can't store what is sent (no space left on device)": &jetstream.APIError{Code: 503, ErrorCode: 10077, Description: "no space left on device"},
		"the hub did not say within 10s that it has stored":          context.DeadlineExceeded,
		"the hub has no stream to take messages: ":                   jetstream.ErrNoStreamResponse,
	} {
		got := &untakenError{untaken(err, 10*time.Second), err}
		if !strings.HasPrefix(got.Error(), want) || !strings.HasSuffix(got.Error(), "; everything is kept here and sent later") || !errors.Is(got, err) {
			t.Errorf("%v: %v", err, got)
		}
	}
	if other := errors.New("something else"); untaken(other, time.Second) != "something else" {
		t.Error(untaken(other, time.Second))
	}
}

// An agent whose token names its hub's authority calls nobody else, however the address
// is answered.
func TestDial_CallsNobodyButItsHub(t *testing.T) {
	plain := broker(t, t.TempDir(), 0)
	dir := t.TempDir()
	token, key := filepath.Join(dir, "agent.jwt"), filepath.Join(dir, "agent.nk")
	check(t, os.WriteFile(token, append([]byte("-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n\n"), authority(t)...), 0o600))
	check(t, os.WriteFile(key, []byte("SU"), 0o600))
	n, err := Dial(t.Context(), DialConfig{URL: plain.ClientURL(), Token: token, Key: key, Site: "graz", Agent: "gw-1"}, slog.New(slog.DiscardHandler))
	check(t, err)
	defer func() { check(t, n.Close()) }()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for late := time.After(20 * time.Second); !strings.Contains(n.Trouble(), "does not protect the connection"); {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("it says %q", n.Trouble())
		}
	}
	if n.Up() || plain.NumClients() > 0 {
		t.Error("it is connected all the same")
	}
}

// authority is the certificate of one.
func authority(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	check(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
