package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"plantmesh/deploy/e2e/programs"
)

// box is a Debian with nothing in it, and with systemd as its first process.
type box struct {
	*testing.T

	root string
	pid  string // of its first process, as seen from here
}

// clean is the root of one that was never started.
func clean(t *testing.T) (root string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may make a Debian root and start it")
	}
	bootstrap := look(t, "mmdebstrap", "Debian's package mmdebstrap")
	look(t, "systemd-nspawn", "Debian's package systemd-container")
	root = filepath.Join(t.TempDir(), "debian")
	if said, err := exec.Command(bootstrap, "--quiet", "--variant=minbase", "--include=systemd,systemd-sysv", "bookworm", root).CombinedOutput(); err != nil {
		t.Skipf("no clean Debian to be had here: mmdebstrap: %v\n%s", err, said)
	}
	return root
}

// debian starts one. Its network is ours.
func debian(t *testing.T, root string) *box {
	t.Helper()
	b := &box{T: t, root: root}
	boot := look(t, "systemd-nspawn", "Debian's package systemd-container")
	// It may find neither a terminal nor a manager around it.
	cmd := exec.Command(boot, "--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=off", "--timezone=off", "--directory", b.root)
	log, err := os.Create(filepath.Join(t.TempDir(), "boot.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() }) // only read when something failed
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := waited(cmd)
	t.Cleanup(func() {
		_, _ = b.try("systemctl", "poweroff", "--force", "--force") // it is killed, if it doesn't
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	until(t, time.Minute, "the Debian is up", func() bool {
		select {
		case <-ended:
			t.Skipf("systemd can't be started in a container here:\n%s", read(t, log.Name()))
		default:
		}
		if b.pid == "" {
			children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
			if fields := strings.Fields(string(children)); err == nil && len(fields) > 0 {
				b.pid = fields[0]
			}
			return false
		}
		said, _ := b.try("systemctl", "is-system-running") // degraded is an exit code
		said = strings.TrimSpace(said)
		return said == "running" || said == "degraded"
	})
	return b
}

// waited waits for a command in the background.
func waited(cmd *exec.Cmd) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended says nothing
		close(ended)
	}()
	return ended
}

// try runs a command in the box.
func (b *box) try(words ...string) (string, error) {
	args := []string{"--target", b.pid, "--mount", "--uts", "--ipc", "--pid", "--root", "--wd=/", "--", "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	said, err := exec.Command("nsenter", append(args, words...)...).CombinedOutput()
	return string(said), err
}

// run is try that must go well.
func (b *box) run(words ...string) string {
	b.Helper()
	said, err := b.try(words...)
	if err != nil {
		log, _ := b.try("journalctl", "--no-pager", "-n", "30")
		b.Fatalf("%s: %v\n%s\n%s", strings.Join(words, " "), err, said, log)
	}
	return said
}

// put writes a file in the box.
func (b *box) put(path, text string) {
	b.Helper()
	at := filepath.Join(b.root, path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

// bring copies a file into the box.
func (b *box) bring(from, to string) string {
	b.Helper()
	b.put(to, string(read(b.T, from)))
	return "/" + to
}

// there reports whether a file is in the box.
func (b *box) there(path string) bool {
	_, err := os.Lstat(filepath.Join(b.root, path))
	return err == nil
}

// shows is a property of a service.
func (b *box) shows(service, property string) string {
	b.Helper()
	return strings.TrimSpace(b.run("systemctl", "show", "--value", "--property="+property, service))
}

// gateway is what the agent says of itself.
type gateway struct {
	Hub struct {
		Connected bool `json:"connected"`
	} `json:"hub"`
	Buffer struct {
		Pending uint64 `json:"pending_records"`
	} `json:"buffer"`
	Sources []struct {
		Samples uint64 `json:"samples"`
	} `json:"sources"`
}

func (b *box) status() (s gateway) {
	said, err := b.try("plantmesh-edge", "status", "--json", "--config", "/etc/plantmesh/edge.yaml")
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 7) { // findings are an answer
		return s
	}
	said, _, _ = strings.Cut(said, "\n") // behind it stands what was found, in words
	answer := struct{ Data *gateway }{&s}
	if err := json.Unmarshal([]byte(said), &answer); err != nil {
		b.Fatalf("%v: %s", err, said)
	}
	return s
}

// kept are the samples in the agent's log, a line each.
func (b *box) kept(name string) []string {
	b.Helper()
	b.run("plantmesh-edge", "buffer", "export", "--config", "/etc/plantmesh/edge.yaml", "/root/"+name)
	var out []string
	for line := range strings.Lines(b.run("plantmesh-edge", "dump", "/root/"+name)) {
		if strings.Contains(line, `"signal"`) {
			out = append(out, line)
		}
	}
	return out
}

// free gives ports that nobody uses, in place of those of the examples.
func free(t *testing.T) (*strings.Replacer, map[string]string) {
	t.Helper()
	var pairs []string
	ports := map[string]string{}
	for _, port := range []string{"4222", "8080", "4840", "1883"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, ports[port], _ = net.SplitHostPort(l.Addr().String())
		pairs = append(pairs, "127.0.0.1:"+port, "127.0.0.1:"+ports[port])
	}
	return strings.NewReplacer(pairs...), ports
}

// machines plays the recording of deploy/examples, outside the box.
func machines(t *testing.T, ports *strings.Replacer) {
	t.Helper()
	dir := t.TempDir()
	if err := programs.Into(t.Context(), dir, "firmware-sim"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sim.yaml", "machines.yaml", "machines.csv", "clock.json"} {
		text := ports.Replace(string(read(t, filepath.Join(root, "deploy", "examples", "machines", name))))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(filepath.Join(dir, "firmware-sim"), "run", "--config", filepath.Join(dir, "sim.yaml"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := waited(cmd)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
}

// A gateway and a hub in a clean Debian: they are installed, started, upgraded while
// much waits for the hub, and purged.
func TestRelease_InACleanDebian(t *testing.T) {
	full(t)
	here := clone(t, "here")
	this := packages(t, here, "amd64")
	do(t, here, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--allow-empty", "--message", "the next one")
	next := packages(t, here, "amd64")
	b := debian(t, clean(t))
	ports, port := free(t)
	machines(t, ports)
	hub := b.bring(file(t, this, "plantmesh", "amd64", ".deb"), "root/hub.deb")
	edge := b.bring(file(t, this, "plantmesh-edge", "amd64", ".deb"), "root/edge.deb")

	b.nothingStartsUnconfigured(hub, edge)
	b.configure(ports, port)
	b.run("systemctl", "restart", "plantmesh")
	b.put("etc/plantmesh/credentials/agent.jwt", b.enrol())
	b.run("systemctl", "stop", "plantmesh") // now the hub is away

	b.run("systemctl", "restart", "plantmesh-edge")
	if got := b.shows("plantmesh-edge", "StatusText"); got != "agent gw-1 at graz, 2 sources" {
		t.Errorf("systemd knows the agent as %q", got)
	}
	b.confined()
	b.watched()
	before := b.backlog()
	b.upgrade(next)
	after := b.kept("after")
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Fatalf("the upgrade lost of %d samples: %s", len(before), line)
		}
	}
	b.run("systemctl", "start", "plantmesh")
	until(t, 2*time.Minute, "the hub has all that waited", func() bool { s := b.status(); return s.Hub.Connected && s.Buffer.Pending == 0 })
	if got := b.metric(port["8080"], "plantmesh_ingest_samples_total"); got != len(after) {
		t.Errorf("the hub has %d samples, %d waited for it", got, len(after))
	}
	t.Logf("%d samples waited before the upgrade, %d after it, all came", len(before), len(after))
	b.purge()
}

// nothingStartsUnconfigured: what nobody has filled in is installed, says what is
// missing, and isn't started; somebody who starts it is told once more, and no loop
// of restarts begins.
func (b *box) nothingStartsUnconfigured(hub, edge string) {
	b.Helper()
	for _, c := range []struct{ deb, name, lacks string }{{hub, "plantmesh", "site.yaml: no such file"}, {edge, "plantmesh-edge", "agent is missing"}} {
		said := b.run("dpkg", "--install", c.deb)
		if !strings.Contains(said, c.lacks) || !strings.Contains(said, "installed and not started") {
			b.Errorf("the installation of %s does not say what is missing:\n%s", c.name, said)
		}
		if got := b.shows(c.name, "ActiveState"); got != "inactive" {
			b.Errorf("%s is %s without a configuration", c.name, got)
		}
		if said, _ := b.try("systemctl", "is-enabled", c.name); strings.TrimSpace(said) != "enabled" {
			b.Errorf("%s is %s", c.name, said)
		}
		if said, err := b.try("systemctl", "start", c.name); err == nil {
			b.Errorf("%s starts: %s", c.name, said)
		}
		if state, code, again := b.shows(c.name, "ActiveState"), b.shows(c.name, "ExecMainStatus"), b.shows(c.name, "NRestarts"); state != "failed" || code != "3" || again != "0" {
			b.Errorf("%s is %s with code %s, restarted %s times", c.name, state, code, again)
		}
		b.run("systemd-analyze", "verify", "--man=no", "/usr/lib/systemd/system/"+c.name+".service")
	}
}

// configure fills in what is asked for, the way an operator would.
func (b *box) configure(ports *strings.Replacer, port map[string]string) {
	b.Helper()
	examples := filepath.Join(root, "deploy", "examples")
	b.put("etc/plantmesh/site.yaml", string(read(b.T, filepath.Join(examples, "hub", "site.yaml"))))
	b.put("etc/default/plantmesh", "PLANTMESH_HUB_NATS__LISTEN=127.0.0.1:"+port["4222"]+"\nPLANTMESH_HUB_HTTP__LISTEN=127.0.0.1:"+port["8080"]+"\nPLANTMESH_HUB_PLANT_CLOCK=/etc/plantmesh/clock.json\n")
	b.put("etc/plantmesh/clock.json", string(read(b.T, filepath.Join(examples, "machines", "clock.json"))))
	b.put("etc/default/plantmesh-edge", "PLANTMESH_EDGE_PLANT_CLOCK=/etc/plantmesh/clock.json\n")
	edge := string(read(b.T, filepath.Join(b.root, "etc/plantmesh/edge.yaml")))
	for key, value := range map[string]string{"agent": "gw-1", "site": "graz", "  url": "nats://127.0.0.1:" + port["4222"]} {
		edge = regexp.MustCompile(`(?m)^`+key+`: `).ReplaceAllString(edge, key+": "+value+" ")
	}
	b.put("etc/plantmesh/edge.yaml", edge)
	for _, name := range []string{"sources.d/press.yaml", "sources.d/packer.yaml", "rules.d/plant.yaml"} {
		b.put("etc/plantmesh/"+name, ports.Replace(string(read(b.T, filepath.Join(b.root, "usr/share/doc/plantmesh-edge/examples", name)))))
	}
}

// enrol is what the hub prints for this gateway's key.
func (b *box) enrol() string {
	b.Helper()
	key := strings.Fields(b.run("plantmesh-edge", "keygen", "/etc/plantmesh/credentials/agent.nk"))[0]
	said := b.run("runuser", "-u", "plantmesh", "--", "plantmesh", "agents", "enroll", "--config", "/etc/plantmesh/hub.yaml", "--site", "graz", "gw-1", key)
	token, _, _ := strings.Cut(said, "\nNext:")
	return token + "\n"
}

// confined: the agent and its workers are nobody's root and see a system that can't be written.
func (b *box) confined() {
	b.Helper()
	pid := b.shows("plantmesh-edge", "MainPID")
	for key, want := range map[string]string{"CapEff": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"} {
		said := b.run("sed", "-n", "s/^"+key+":[[:space:]]*//p", "/proc/"+pid+"/status")
		if strings.TrimSpace(said) != want {
			b.Errorf("the agent's %s is %s", key, said)
		}
	}
	if said := b.run("stat", "-c", "%U %a", "/var/lib/plantmesh-edge", "/etc/plantmesh/credentials"); said != "plantmesh-edge 700\nroot 700\n" {
		b.Errorf("folders belong to\n%s", said)
	}
	mounts := b.run("cat", "/proc/"+pid+"/mountinfo")
	if !regexp.MustCompile(`(?m)^\S+ \S+ \S+ \S+ / ro[, ]`).MatchString(mounts) {
		b.Errorf("the system can be written:\n%s", mounts)
	}
}

// watched: an agent that stands still is ended and started again by the watchdog.
func (b *box) watched() {
	b.Helper()
	b.put("etc/systemd/system/plantmesh-edge.service.d/quick.conf", "[Service]\nWatchdogSec=20\nTimeoutAbortSec=5\n")
	b.run("systemctl", "daemon-reload")
	b.run("systemctl", "restart", "plantmesh-edge")
	pid := b.shows("plantmesh-edge", "MainPID")
	b.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", "plantmesh-edge")
	until(b.T, 2*time.Minute, "the watchdog has started the agent anew", func() bool {
		return b.shows("plantmesh-edge", "NRestarts") == "1" && b.shows("plantmesh-edge", "ActiveState") == "active" && b.shows("plantmesh-edge", "MainPID") != pid
	})
	if err := os.RemoveAll(filepath.Join(b.root, "etc/systemd/system/plantmesh-edge.service.d")); err != nil {
		b.Fatal(err)
	}
	b.run("systemctl", "daemon-reload")
	b.run("systemctl", "restart", "plantmesh-edge")
}

// backlog waits until all that the machines said lies in the buffer, and gives it.
func (b *box) backlog() []string {
	b.Helper()
	was, since := uint64(0), time.Now()
	until(b.T, 3*time.Minute, "the machines have said all", func() bool {
		s := b.status()
		if s.Buffer.Pending != was || was == 0 || len(s.Sources) == 0 {
			was, since = s.Buffer.Pending, time.Now()
		}
		return time.Since(since) > 15*time.Second && s.Buffer.Pending > 0
	})
	return b.kept("before")
}

// upgrade installs the next packages: the agent is another process of another
// version, and what waited still does.
func (b *box) upgrade(next string) {
	b.Helper()
	pid, version := b.shows("plantmesh-edge", "MainPID"), b.run("plantmesh-edge", "version")
	waits := b.status().Buffer.Pending
	for _, name := range []string{"plantmesh-edge", "plantmesh"} {
		b.run("dpkg", "--install", b.bring(file(b.T, next, name, "amd64", ".deb"), "root/next.deb"))
	}
	if b.run("plantmesh-edge", "version") == version {
		b.Errorf("the version is still %s", version)
	}
	until(b.T, 30*time.Second, "the new agent answers", func() bool { return b.status().Buffer.Pending >= waits })
	if now := b.shows("plantmesh-edge", "MainPID"); now == pid || now == "0" {
		b.Errorf("the agent is process %s, and was %s", now, pid)
	}
	if got := b.shows("plantmesh", "ActiveState"); got != "inactive" {
		b.Errorf("the hub, which was stopped, is %s", got)
	}
	// One whose configuration the new program would not take runs on.
	pid = b.shows("plantmesh-edge", "MainPID")
	edge := string(read(b.T, filepath.Join(b.root, "etc/plantmesh/edge.yaml")))
	b.put("etc/plantmesh/edge.yaml", edge+"nobody_reads_this: 1\n")
	if said := b.run("dpkg", "--install", "/root/edge.deb"); !strings.Contains(said, "nobody_reads_this") || !strings.Contains(said, "runs on") {
		b.Errorf("it is not told:\n%s", said)
	}
	if now := b.shows("plantmesh-edge", "MainPID"); now != pid {
		b.Errorf("the agent is process %s, and was %s: it was taken down for one that does not start", now, pid)
	}
	b.put("etc/plantmesh/edge.yaml", edge)
	b.run("dpkg", "--install", b.bring(file(b.T, next, "plantmesh-edge", "amd64", ".deb"), "root/next.deb"))
	until(b.T, 30*time.Second, "the new agent answers", func() bool { return b.status().Buffer.Pending >= waits })
}

// metric is a figure of the hub.
func (b *box) metric(port, name string) int {
	b.Helper()
	r, err := http.Get("http://127.0.0.1:" + port + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer r.Body.Close()
	said, err := io.ReadAll(r.Body)
	if err != nil {
		b.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(said)
	if m == nil {
		b.Fatalf("no %s:\n%s", name, said)
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return int(n)
}

// purge: what is removed keeps its data, and says how much that is; a purge takes it.
func (b *box) purge() {
	b.Helper()
	for _, name := range []string{"plantmesh-edge", "plantmesh"} {
		said := b.run("dpkg", "--remove", name)
		if name == "plantmesh-edge" && !strings.Contains(said, "0 records the hub has not yet") {
			b.Errorf("the removal does not say what waits:\n%s", said)
		}
		if !b.there("var/lib/"+name) || b.there("usr/bin/"+name) {
			b.Errorf("after the removal of %s: data %t, program %t", name, b.there("var/lib/"+name), b.there("usr/bin/"+name))
		}
		said = b.run("dpkg", "--purge", name)
		if !strings.Contains(said, "in /var/lib/"+name+" are deleted now") {
			b.Errorf("the purge does not say what it takes:\n%s", said)
		}
		for _, gone := range []string{"var/lib/" + name, "var/lib/" + name + ".left", "usr/lib/systemd/system/" + name + ".service", "etc/systemd/system/multi-user.target.wants/" + name + ".service"} {
			if b.there(gone) {
				b.Errorf("%s is left by the purge of %s", gone, name)
			}
		}
	}
	if b.there("etc/plantmesh/credentials") || !b.there("etc/plantmesh/sources.d/press.yaml") {
		b.Error("a purge takes the gateway's secrets, and what somebody wrote by hand it leaves")
	}
}
