package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"plantmesh/deploy/e2e/nodejs"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/proto/meshtest"
)

// lacking ends a test that misses something outside: it fails where the suite is
// required.
func lacking(t *testing.T, why string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("PLANTMESH_REQUIRE"), ","), "interop") {
		t.Fatal(why)
	}
	t.Skip(why)
}

// modules is the folder with node-opcua of the lock beside, 71 MB.
var modules = sync.OnceValues(func() (string, error) {
	return nodejs.Modules(context.Background(), filepath.Join("..", "opcua", "testdata"), "node-opcua-2.182.2")
})

// nodeServer starts testdata/node-opcua/plant.js and gives its endpoint and its process.
// started starts a server in JavaScript with the modules it needs; it ends with the test.
func started(t *testing.T, cmd *exec.Cmd) (in io.Writer, out io.Reader) {
	t.Helper()
	at, err := modules()
	if err != nil {
		lacking(t, err.Error())
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "NODE_PATH="+at)
	o, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	i, err := cmd.StdinPipe() // the server ends with it
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		i.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return i, o
}

func nodeServer(t *testing.T, env ...string) (url string, pid int) {
	t.Helper()
	cmd := exec.Command("node", filepath.Join("testdata", "node-opcua", "plant.js"))
	cmd.Env = append(append(os.Environ(), "PORT="+freePort(t)), env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	_, out := started(t, cmd)
	late := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer late.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			return url, cmd.Process.Pid
		}
	}
	t.Fatalf("the server said: %s", said.String())
	return "", 0
}

// spent is the processor time of a process until now; 0 where that can't be read.
func spent(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), ") ") // the name before it may hold anything
	f := strings.Fields(after)
	if len(f) < 13 {
		return 0
	}
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err1 != nil || err2 != nil {
		return 0
	}
	return time.Duration(user+system) * 10 * time.Millisecond // proc(5): in ticks, 100 a second
}

// highWater follows the most memory a process has had resident, until peak is called;
// 0 where it is not told. What wait4 tells is no use: a child's figure begins with what
// its parent had when it was started, here a test under the race detector.
func highWater(pid int) (peak func() int64) {
	ended, most := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for got := int64(0); ; {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // gone: what was seen before counts
			if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
				var kib int64
				if _, err := fmt.Sscan(rest, &kib); err == nil {
					got = max(got, kib<<10)
				}
			}
			select {
			case <-ended:
				most <- got
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 { close(ended); return <-most }
}

func freePort(t *testing.T) string {
	t.Helper()
	return strconv.Itoa(meshtest.VacantPort(t))
}

// Bars of browsing 21,000 variables below one folder.
const (
	browseWithin = 2 * time.Second
	browseRSS    = 64 << 20
)

// TestBrowse_TwentyOneThousand: the whole process, against node-opcua, with data
// types, units and access. The bar is for a machine that does nothing else: the best
// of some runs counts, and where others take the processors, what client and server
// took of them together, which is no less than the time alone would be. Memory counts
// in each.
func TestBrowse_TwentyOneThousand(t *testing.T) {
	url, server := nodeServer(t, "BIG=21000")
	best, most := time.Hour, int64(0)
	for range 8 {
		cmd := exec.Command(filepath.Join(programs, "plantmesh-edge"), "browse", url, "--insecure")
		var out, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &stderr
		began, before := time.Now(), spent(server)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		peak := highWater(cmd.Process.Pid)
		err := cmd.Wait()
		most = max(most, peak())
		if err != nil {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		took := time.Since(began)
		if before > 0 {
			took = min(took, spent(server)-before+cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		}
		best = min(best, took)
		text := out.String()
		if n := strings.Count(text, "\n  b"); n != 21_000 || strings.Contains(text, "stopped") || !strings.Contains(text, "  b20999 ") {
			t.Fatalf("%d of 21,000 variables: %s", n, text[max(0, len(text)-500):])
		}
		for _, ring := range []string{"Ring1", "Ring2", "Ring3"} { // each refers to the next, the last to the first
			if n := len(regexp.MustCompile(`(?m)^ *`+ring+` `).FindAllString(text, -1)); n != 1 {
				t.Errorf("%s is told %d times", ring, n)
			}
		}
		if best < browseWithin {
			break
		}
	}
	within := browseWithin
	if os.Getenv("PLANTMESH_BENCH") == "" {
		within *= 2 // a clock: elsewhere the machine may be half as fast
	}
	if best > within || most > browseRSS {
		t.Errorf("21,000 variables took %s and %d MiB, the bars are %s and %d MiB", best, most>>20, within, browseRSS>>20)
	}
	t.Logf("21,000 variables: %s, %d MiB", best.Round(time.Millisecond), most>>20)
}

// TestBrowse_MachinesOfNodeOPCUA: the nodesets of the specifications, as another
// implementation serves them.
func TestBrowse_MachinesOfNodeOPCUA(t *testing.T) {
	url, _ := nodeServer(t, "SPECS=yes")
	b := asked(t, url, "--insecure", "--propose", "--measure", "3s")
	got := map[string]browse.Machine{}
	for _, m := range b.Machines {
		got[m.Name] = m
	}
	for name, c := range map[string]struct {
		specs []string
		score int // at least
		why   string
	}{
		"Hall2-Press": {[]string{"Machinery"}, 50, "has MachineryItemState of MachineryItemState_StateMachineType"},
		"Mill":        {[]string{"Machinery", "MachineTool", "IA"}, 90, "Stacklight is of BasicStacklightType"},
		"Packer":      {[]string{"PackML"}, 50, "Packer is of PackMLBaseObjectType"},
		"Filler":      {[]string{"Weihenstephan", "Machinery"}, 50, "Filler is of WSMachineType"},
		"Hall3-Oven":  {[]string{"DI"}, 30, "stands under DeviceSet of DI"},
		"Hall3-Dryer": {[]string{"DI"}, 20, "Hall3-Dryer is of DeviceType"},
		"Hall3-Lathe": {[]string{"IA"}, 13, "Light is of BasicStacklightType"},
	} {
		if m, ok := got[name]; !ok || !slices.Equal(m.Specs, c.specs) || m.Score < c.score || !strings.Contains(strings.Join(m.Why, ", "), c.why+" (") {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if len(got) != 7 {
		t.Errorf("%d machines", len(got))
	}
	for _, want := range []string{
		"name: hall2.press.oil_temperature, type: double, unit: \"CEL\"", "name: hall2.press.item_state, type: uint", "name: line1.packer.state, type: int", "name: line1.packer.mode, type: int",
		"name: hall3.oven.device_health, type: int", "name: hall3.oven.temperature, type: double, unit: \"CEL\"", "name: hall3.dryer.device_health, type: int",
		"name: hall3.lathe.produced, type: int", "name: hall3.lathe.lamp1_on, type: bool", "name: hall2.press.heater_device_health, type: int", "name: hall2.press.operation, type: double",
	} {
		if !strings.Contains(b.Source, want) {
			t.Errorf("the file lacks %q:\n%s", want, b.Source)
		}
	}
	if p := b.Preview; p == nil || p.ValuesPerSecond < 1 || p.ValuesPerSecond > 6 { // one variable changes four times a second
		t.Errorf("preview %+v", p)
	}
	dir, files := folder(t), good()
	files["node.yaml"] = b.Source
	write(t, dir, files)
	code, _, trial := tried(t, dir, "node.yaml")
	said := map[string]string{}
	for _, j := range trial.Journeys {
		said[j.Mapped.Name] = j.Raw.Type + " " + j.Mapped.Value
	}
	if code != 0 || trial.Good != len(trial.Journeys) || said["line1.mill.tool_mode"] != "Int32 0 (Manual)" || said["hall2.press.item_state"] != "UInt32 3" ||
		said["hall3.oven.device_health"] != "Int32 2 (CHECK_FUNCTION)" || said["hall3.lathe.lamp1_on"] != "Boolean true" || said["hall2.press.operation"] != "Double 3.6e+06" {
		t.Errorf("exit code %d: %+v", code, trial)
	}
	r := run(t, nil, "plantmesh-edge", "browse", url, "--insecure", "--watch", "--for", "1500ms", "--every", "100ms", "--filter", "^energy$", "--class", "variable")
	if n := strings.Count(r.out, "Machines/Hall2-Press/energy = "); r.code != 0 || n < 3 || n > 9 {
		t.Errorf("exit code %d, %d values: %s%s", r.code, n, r.out, r.err)
	}
}

// TestBrowse_Protected: the certificates are the agent's, and so is the advice. What
// they need is written, and of edge.yaml no more.
func TestBrowse_Protected(t *testing.T) {
	url, _ := nodeServer(t, "DIR="+t.TempDir())
	dir := folder(t)
	write(t, dir, map[string]string{"edge.yaml": "agent: gw-1\nsite: graz\ndata: data\n"})
	edge := filepath.Join(dir, "edge.yaml")
	offersNew(t, url)
	r := run(t, nil, "plantmesh-edge", "browse", url, "--config", edge, "--accept-host-mismatch")
	known := regexp.MustCompile(`cert --config '[^']*' trust ([0-9a-f]+)`).FindStringSubmatch(r.err)
	if r.code != exitIdentity || !strings.Contains(r.err, "[opcua.cert_untrusted]") || known == nil {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	trustedAtOnce(t, url, known[1])
	trusted := run(t, nil, "plantmesh-edge", "cert", "--config", edge, "trust", known[1], "--endpoint", url)
	if next := "Next:  plantmesh-edge browse " + url + " --config '" + edge + "'"; trusted.code != 0 || trusted.last() != next {
		t.Errorf("exit code %d, stderr %s, want %s", trusted.code, trusted.err, next)
	}
	r = run(t, nil, "plantmesh-edge", "browse", url, "--config", edge, "--accept-host-mismatch")
	if r.code != 0 || !strings.Contains(r.out, "Ring3") || r.err != "note: not ready to run: "+edge+":1: hub.url is missing (plantmesh-edge enroll writes it)\n" {
		t.Errorf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	// Of what it offers the agent takes the same, and trusts it now.
	r = run(t, nil, "plantmesh-edge", "browse", hostPort(url), "--config", edge, "--accept-host-mismatch")
	if r.code != 0 || !strings.Contains(r.out, "-> Basic256Sha256         SignAndEncrypt") || !strings.Contains(r.out, "\ntrust        this gateway trusts the certificate") ||
		r.last() != "Next:  plantmesh-edge browse "+url+" --config '"+edge+"' --accept-host-mismatch" {
		t.Errorf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	r = run(t, nil, "plantmesh-edge", "browse", url, "--config", edge, "--accept-host-mismatch", "--mode", "Sign")
	if r.code != exitNetwork || !strings.Contains(r.err, "or take what there is: --policy Basic256Sha256 with --mode SignAndEncrypt [net.unreachable]") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	write(t, dir, map[string]string{"password": "x\n"})
	r = run(t, nil, "plantmesh-edge", "browse", url, "--config", edge, "--accept-host-mismatch", "--user", "otto", "--password-file", filepath.Join(dir, "password"))
	if r.code != exitIdentity || !strings.Contains(r.err, `the server refuses this login: check --user ("otto"), the password in --password-file`) || !strings.Contains(r.err, "[opcua.user_denied]") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
}

// trustedAtOnce: who knows the fingerprint says it, and needs no other command; what another
// one is said of is not trusted.
func trustedAtOnce(t *testing.T, url, fingerprint string) {
	t.Helper()
	dir := folder(t)
	write(t, dir, map[string]string{"edge.yaml": "agent: gw-2\nsite: graz\ndata: data\n"})
	call := []string{"browse", url, "--config", filepath.Join(dir, "edge.yaml"), "--accept-host-mismatch", "--trust"}
	for range 2 { // refusing it once makes it no known one
		if r := run(t, nil, "plantmesh-edge", append(call, strings.Repeat("0", 64))...); r.code != exitIdentity || !strings.Contains(r.err, "it does not show the certificate that --trust names: ") {
			t.Errorf("exit code %d: %s", r.code, r.err)
		}
	}
	if r := run(t, nil, "plantmesh-edge", append(call, fingerprint)...); r.code != 0 || !strings.Contains(r.out, "Ring3") || !strings.Contains(r.err, "trusted at "+url+": SHA256:") {
		t.Errorf("exit code %d: %s%s", r.code, r.out, r.err)
	}
}

// offersNew: what a server offers is told to whoever asks, without any file.
func offersNew(t *testing.T, url string) {
	t.Helper()
	r := run(t, nil, "plantmesh-edge", "browse", hostPort(url))
	for _, want := range []string{
		"server       NodeOPCUA (urn:", "a Server, asked at opc.tcp://" + hostPort(url), "\ncertificate  \"NodeOPCUA@", ", SHA256:", " days left\nendpoint     " + url,
		"   None                   None            user name, certificate, anonymous  not taken: neither signed nor encrypted: only --insecure takes that",
		"-> Basic256Sha256         SignAndEncrypt  user name, certificate, anonymous  taken: the strongest of what is asked for",
	} {
		if r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("exit code %d: %s%s\nwant %q", r.code, r.out, r.err, want)
		}
	}
	if r.err != "Next:  plantmesh-edge browse "+url+" --config edge.yaml\n" {
		t.Errorf("stderr %q", r.err)
	}
}

// hostPort is an endpoint without its path.
func hostPort(url string) string {
	host, _, _ := strings.Cut(strings.TrimPrefix(url, "opc.tcp://"), "/")
	return host
}
