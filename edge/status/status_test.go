package status

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"plantmesh/proto/strict"
)

// leave leaves a socket behind as a killed agent does.
func leave(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestServe_RemovesNothingButADeadSocket(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "edge.yaml")
	if err := os.WriteFile(file, []byte("agent: gw-1"), 0o600); err != nil {
		t.Fatal(err)
	}
	var fault *strict.Fault
	if err := Check(file); !errors.As(err, &fault) {
		t.Errorf("the check says %v, want a fault of the configuration", err)
	}
	if err := Serve(t.Context(), file, Answers{}); !errors.As(err, &fault) {
		t.Errorf("a plain file in the way gives %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "agent: gw-1" {
		t.Errorf("the file in the way holds %q, %v", b, err)
	}
	if err := Serve(t.Context(), dir, Answers{}); !errors.As(err, &fault) {
		t.Errorf("a folder in the way gives %v", err)
	}
	alive := filepath.Join(dir, "alive.sock")
	l, err := net.Listen("unix", alive)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := Serve(t.Context(), alive, Answers{}); err == nil {
		t.Error("a socket another program answers on was taken over")
	}
	if _, err := os.Lstat(alive); err != nil {
		t.Error(err)
	}
}

func TestServe_AnswersAndReplacesAStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	leave(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, path, Answers{Snapshot: func() Snapshot { return Snapshot{Agent: "gw-1"} }})
	}()
	for {
		s, err := Ask(t.Context(), path)
		if err == nil {
			if s.Agent != "gw-1" {
				t.Errorf("answer %+v", s)
			}
			break
		}
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := Ask(t.Context(), path); err == nil {
		t.Error("an ended agent answered")
	}
}
