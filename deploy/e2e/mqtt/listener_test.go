package mqtt

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"plantmesh/deploy/e2e/nodejs"
)

// modules is where MQTT.js is installed; the lock is that of the Sparkplug peers.
func modules(t *testing.T) string {
	t.Helper()
	where, err := nodejs.Modules(context.Background(), filepath.Join("..", "sparkplug", "testdata"), "sparkplug-payload-1.0.3")
	if err != nil {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "interop") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return where
}

// TestListener_DevicesOfMQTTjs: MQTT 3.1.1 and 5 devices publish into the agent's own
// listener, which is killed again and again: what they were told is received is stored
// once, and nothing twice.
func TestListener_DevicesOfMQTTjs(t *testing.T) {
	where := modules(t)
	port := freePort(t)
	dir := gateway(t, `mqtt_listener:
  id: s1
  listen: 127.0.0.1:`+port+`
  devices:
    - {user: four, password_file: ../secret, publish: [plant/line4/#]}
    - {user: five, password_file: ../secret, publish: [plant/line5/#]}
  topics:
    - {filter: "plant/{line}/{machine}", signal: "{line}.{machine}.{key}", time: ts}
  signals:
    - {name: line4.filler.produced, type: int, max_silence: 1m}
    - {name: line5.filler.produced, type: int, max_silence: 1m}
`)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := run(t, "the agent", built, "run", "--config", filepath.Join(dir, "edge.yaml"))
	const n = 1500
	type result struct {
		version string
		err     error
		said    string
	}
	done := make(chan result, 2)
	for i, version := range []string{"4", "5"} {
		cmd := exec.Command("node", filepath.Join("testdata", "devices.js"), "mqtt://127.0.0.1:"+port, version,
			map[string]string{"4": "four", "5": "five"}[version], "s", strconv.Itoa(i*n), strconv.Itoa(n))
		cmd.Env = append(os.Environ(), "NODE_PATH="+where)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() })
		go func() { err := cmd.Wait(); done <- result{version, err, said.String()} }()
	}
	const most = 10 // a busy machine has it come up slowly: then the devices come to an end, too
	const between = 300 * time.Millisecond
	kill := time.NewTimer(between)
	defer kill.Stop()
	kills := 0
	for late := time.After(2 * time.Minute); len(done) < 2; {
		select {
		case <-kill.C:
			agent.end(syscall.SIGKILL)
			agent.start()
			await(t, "it listens again", time.Minute, func() bool {
				c, err := net.Dial("tcp", "127.0.0.1:"+port)
				return err == nil && c.Close() == nil
			})
			if kills++; kills < most {
				kill.Reset(between)
			}
		case <-late:
			t.Fatal("the devices are not done after two minutes")
		case <-time.After(20 * time.Millisecond):
		}
	}
	for range 2 {
		if r := <-done; r.err != nil || !strings.Contains(r.said, "done") {
			t.Errorf("version %s: %v: %s", r.version, r.err, r.said)
		}
	}
	agent.end(syscall.SIGTERM)
	numbers, voids := stored(t, dir)
	missing, doubled := counted(numbers, 0, 2*n)
	t.Logf("%d messages of two devices, the agent killed %d times: missing %d, duplicated %d, %d voids", 2*n, kills, missing, doubled, len(voids))
	if missing != 0 || doubled != 0 || kills < 2 {
		t.Errorf("missing %d, duplicated %d, %d kills", missing, doubled, kills)
	}
}
