package cli

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manager is a service manager: it gives out the environment of a service, and
// hears what that says.
func manager(t *testing.T) (env []string, heard *lines) {
	t.Helper()
	at := filepath.Join(folder(t), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	heard = &lines{}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			heard.Write(append(b[:n:n], '\n'))
		}
	}()
	return []string{"NOTIFY_SOCKET=" + at, "WATCHDOG_USEC=1000000"}, heard
}

// A service manager is told when a program is ready, and when it ends; the watchdog
// is answered while the agent works, and asked for the time that a turn may take.
func TestManaged_ServicesSayHowTheyAre(t *testing.T) {
	t.Parallel()
	files, dir := good(), folder(t)
	for name := range files {
		if strings.HasPrefix(name, "sources.d/") || name == "clock.json" || name == "sim.yaml" {
			delete(files, name)
		}
	}
	write(t, dir, files)
	for _, c := range []struct{ program, command, config, ready, patience string }{
		{"plantmesh-edge", "run", "edge.yaml", "STATUS=agent gw-1 at graz, 0 sources", "WATCHDOG_USEC=40000000"},
		{"plantmesh", "serve", "hub.yaml", "STATUS=hub of graz, page at ", "WATCHDOG_USEC=80000000"},
	} {
		t.Run(c.program, func(t *testing.T) {
			t.Parallel()
			env, heard := manager(t)
			p := begin(t, dir, env, c.program, c.command, "--config", filepath.Join(dir, c.config))
			for _, want := range []string{"READY=1", c.ready, c.patience} {
				p.says(heard, want, 20*time.Second)
			}
			if c.program == "plantmesh-edge" {
				p.says(heard, "WATCHDOG=1", 20*time.Second)
			}
			p.signal(interrupt)
			p.ends(20 * time.Second)
			until(t, 10*time.Second, "it has said that it ends", func() bool { return heard.with("STOPPING=1") != "" })
		})
	}
}
