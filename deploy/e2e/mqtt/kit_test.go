package mqtt

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"plantmesh/deploy/e2e/programs"
	"plantmesh/edge/buffer"
	"plantmesh/proto/mesh"
	"plantmesh/proto/meshtest"
	"plantmesh/proto/wire"
)

// built and hub are the programs of the agent and of a hub, which signs its token.
var built, hub string

func TestMain(m *testing.M) { os.Exit(main(m)) }

func main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pm")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	built, hub = filepath.Join(dir, "plantmesh-edge"), filepath.Join(dir, "plantmesh")
	if err := programs.Into(context.Background(), dir, "plantmesh", "plantmesh-edge"); err != nil {
		panic(err)
	}
	return m.Run()
}

// process is a program that is started again and again.
type process struct {
	t    *testing.T
	name string
	args []string
	cmd  *exec.Cmd
	said *bytes.Buffer
}

func (p *process) start() {
	p.t.Helper()
	p.said = &bytes.Buffer{}
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) end(s os.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
	_ = p.cmd.Wait() // it was told to end
}

// run starts a program that ends with the test.
func run(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, args: args}
	p.start()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		if t.Failed() {
			said := p.said.String()
			t.Logf("%s said: %s", name, said[max(0, len(said)-3000):])
		}
	})
	return p
}

func freePort(t *testing.T) string {
	t.Helper()
	return strconv.Itoa(meshtest.VacantPort(t))
}

// mosquitto starts a real one that keeps what it has on disk.
func mosquitto(t *testing.T) (p *process, address string) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(path); err != nil {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "interop") {
			t.Fatal("mosquitto is required and not installed")
		}
		t.Skip("skipped: mosquitto is not installed")
	}
	port, dir := freePort(t), t.TempDir()
	conf := filepath.Join(dir, "mosquitto.conf")
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\npersistence true\npersistence_location " + dir +
		"/\nautosave_on_changes true\nautosave_interval 500\nuser root\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p = run(t, "mosquitto", path, "-c", conf)
	return p, "127.0.0.1:" + port
}

// start is the time of the first message, in ms.
const start = 1_767_268_800_000

const site = `site: graz
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
min_coverage: 0.5
energy_unit: kWh
equipment:
  - {id: line3-filler, line: line3, name: Filler, kind: filler, source: line3, signals_prefix: line3.filler.}
`

// said is what a command prints.
func said(t *testing.T, program string, args ...string) string {
	t.Helper()
	var wrong bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stderr = &wrong
	out, err := cmd.Output()
	if findings := 7; err != nil && (args[0] != "status" || cmd.ProcessState.ExitCode() != findings) { // those are an answer
		t.Fatalf("%s %v: %v\n%s", filepath.Base(program), args, err, wrong.String())
	}
	return strings.TrimSpace(string(out))
}

// gateway writes an agent's files. There is no hub: what it has stays in its buffer.
func gateway(t *testing.T, source string) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pmq") //nolint:usetesting // short: a socket's path has some 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, text := range map[string]string{
		"edge.yaml":        "agent: gw-1\nsite: graz\ndata: data\nhub: {url: \"nats://127.0.0.1:1\", key: agent.nk, token: agent.jwt}\nwindow: {latency: 100ms}\nbuffer: {max_bytes: 256MiB}\n",
		"sources.d/s.yaml": source,
		"hub.yaml":         "data: hub\nsite_file: site.yaml\nnats: {listen: \"127.0.0.1:0\", max_store: 1GiB}\nhttp: {listen: \"127.0.0.1:0\"}\n",
		"site.yaml":        site,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := said(t, built, "keygen", filepath.Join(dir, "agent.nk"))
	token := said(t, hub, "agents", "enroll", "--config", filepath.Join(dir, "hub.yaml"), "--site", "graz", "gw-1", key)
	if err := os.WriteFile(filepath.Join(dir, "agent.jwt"), []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// stored is what lies in the buffer of an agent that does not run: how often each
// number, and the voids.
func stored(t *testing.T, dir string) (numbers map[int64]int, voids []mesh.Void) {
	t.Helper()
	b, err := buffer.Open(buffer.Config{Dir: filepath.Join(dir, "data", "buffer"), Log: "agent/graz/gw-1", MaxBytes: 256 << 20}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	d, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	numbers = map[int64]int{}
	for at := (mesh.Position{}); ; {
		records, err := b.Peek(at, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			return numbers, voids
		}
		for _, r := range records {
			at = r.At
			h, err := wire.ParseHeader(r.Sealed)
			if err != nil {
				t.Fatal(err)
			}
			switch h.Kind {
			case mesh.KindVoid:
				v, err := wire.OpenVoid(r.Sealed)
				if err != nil {
					t.Fatal(err)
				}
				voids = append(voids, v)
			case mesh.KindOpening, mesh.KindVerdict, mesh.KindFact:
			case mesh.KindBatch:
				batch, err := d.Batch(r.Sealed)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range batch.Samples {
					if n, ok := s.Value.Int(); ok {
						numbers[n]++
					}
				}
			}
		}
	}
}

// counted compares that with what was published.
func counted(numbers map[int64]int, from, n int) (missing, doubled int) {
	for i := int64(from); i < int64(n); i++ {
		switch c := numbers[i]; {
		case c == 0:
			missing++
		case c > 1:
			doubled += c - 1
		}
	}
	return missing, doubled
}

// all runs the agent until everything is in its buffer, at least from a message on, or
// it takes too long.
func all(t *testing.T, agent *process, dir string, n, from int) (missing, doubled int, voids []mesh.Void) {
	t.Helper()
	for range 8 {
		<-time.After(2 * time.Second) // it reads on meanwhile
		agent.end(syscall.SIGTERM)
		var numbers map[int64]int
		numbers, voids = stored(t, dir)
		missing, doubled = counted(numbers, 0, n)
		if late, _ := counted(numbers, from, n); late == 0 {
			break
		}
		agent.start()
	}
	return missing, doubled, voids
}

// await looks again and again until ok.
func await(t *testing.T, what string, long time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(long)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("timed out after %v: %s", long, what)
		}
	}
}
