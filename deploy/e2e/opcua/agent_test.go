package opcua

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/opcua/trust"
	"plantmesh/edge/status"
	"plantmesh/proto/wire"
)

var buildAgent = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("PLANTMESH_BIN"); dir != "" {
		return filepath.Join(dir, "plantmesh-edge"), nil
	}
	return build(".", "plantmesh/edge/cmd/plantmesh-edge", "plantmesh-edge")
})

// box is a gateway as processes: an agent, its worker and their disk.
type box struct {
	t    *testing.T
	p    *peer
	path string // of the program
	dir  string
	cmd  *exec.Cmd
	log  *os.File
}

func newBox(t *testing.T, p *peer) *box {
	t.Helper()
	path, err := buildAgent()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pm") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, p: p, path: path, dir: dir}
	t.Cleanup(func() {
		if said, err := os.ReadFile(b.file("log")); err == nil && t.Failed() {
			t.Logf("%s", said)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	var source strings.Builder
	endpoint := "opc.tcp://" + p.address()
	fmt.Fprintf(&source, "opcua:\n  id: plant\n  endpoint: %s\n  disorder: %s\n  signals:\n", endpoint, disorder)
	for i := range p.plan.Items {
		fmt.Fprintf(&source, "    - {name: line1.press.v%d, type: double, node: \"nsu=%s;s=v%d\"}\n", i, plantURI, i)
	}
	if err := os.Mkdir(b.file("sources.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, b.file("sources.d/plant.yaml"), []byte(source.String()))
	write(t, b.file("agent.jwt"), []byte("none: the hub is away in this test\n"))
	write(t, b.file("edge.yaml"), []byte("agent: gw-1\nsite: graz\ndata: data\nstatus: s.sock\nhub: {url: \"nats://127.0.0.1:1\", key: agent.nk, token: agent.jwt}\nwindow: {latency: 200ms}\n"))
	if said, err := exec.Command(path, "keygen", b.file("agent.nk")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	store, err := trust.Open(b.file("data/pki"))
	if err == nil {
		_, err = store.TrustFile(p.plan.Cert, endpoint)
	}
	if err != nil {
		t.Fatal(err)
	}
	if b.log, err = os.Create(b.file("log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.kill(); b.log.Close() })
	return b
}

func (b *box) file(name string) string { return filepath.Join(b.dir, name) }

func (b *box) start() {
	b.t.Helper()
	b.cmd = exec.Command(b.path, "run", "--config", b.file("edge.yaml"))
	b.cmd.Stdout, b.cmd.Stderr = b.log, b.log
	own(b.cmd)
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
}

// kill ends the agent without a word; its worker ends with it.
func (b *box) kill() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Kill() // it may have ended
	_ = b.cmd.Wait()         // killed
	b.cmd = nil
}

// worker is the process of the source; 0: it is just not there.
func (b *box) worker() int {
	pid := b.cmd.Process.Pid
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is valid
	for _, f := range stats {
		s, err := os.ReadFile(f)
		if err != nil {
			continue // it ended meanwhile
		}
		// pid (name) state ppid ...; a name may hold spaces and brackets.
		fields := strings.Fields(string(s[bytes.LastIndexByte(s, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) && fields[0] != "Z" {
			n, _ := strconv.Atoi(filepath.Base(filepath.Dir(f))) // it was matched as digits
			return n
		}
	}
	return 0
}

// kept is what stands on the gateway's disk now; nil: it can't be asked just now.
func (b *box) kept() *ledger {
	cfg, err := agent.LoadConfig(b.file("edge.yaml"))
	if err != nil {
		b.t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := agent.ExportBuffer(b.t.Context(), cfg, &out, status.ExportQuery{}, agent.Records); err != nil {
		return nil
	}
	l := newLedger(b.t, b.p.plan)
	for rest := out.Bytes(); len(rest) > 0; {
		var frame []byte
		var kind wire.FrameKind
		if kind, frame, rest, err = wire.Next(rest); err != nil {
			b.t.Fatal(err)
		}
		if kind != wire.FrameRecord {
			continue
		}
		r, err := wire.ParseRecord(frame)
		if err != nil {
			b.t.Fatal(err)
		}
		l.keep(r.Sealed)
	}
	return l
}

// flows waits until the disk has every item to where the server is now, and gives
// what it has.
func (b *box) flows() (l *ledger) {
	b.t.Helper()
	to := b.p.tick()
	late := time.After(40 * time.Second)
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	for {
		if l = b.kept(); l != nil && l.reached(to) && len(l.proofs) > 0 && l.proofs[len(l.proofs)-1].To >= l.at(to) {
			return l
		}
		select {
		case <-look.C:
		case <-late:
			b.t.Fatalf("waited in vain until every item comes to tick %d", to)
		}
	}
}

// TestMatrix_Killed: the agent is killed, and its worker is, as real processes:
// what the server keeps meanwhile comes, and nothing of it twice.
func TestMatrix_Killed(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("workers are found in /proc")
	}
	beside(t)
	items, period := size()
	b := newBox(t, serve(t, items, period))
	b.start()
	b.flows()
	rounds := 2
	if full() {
		rounds = 10
	}
	for range rounds {
		b.kill()
		pass(t, time.Second)
		b.start()
		b.flows()
		was := 0
		until(t, 10*time.Second, "there is a worker", func() bool { was = b.worker(); return was != 0 })
		if err := syscall.Kill(was, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		until(t, 20*time.Second, "there is another worker", func() bool { n := b.worker(); return n != 0 && n != was })
		b.flows()
	}
	b.flows().bridged()
}
