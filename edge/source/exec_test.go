package source

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// asWorker makes this test's binary a worker.
const asWorker = "PLANTMESH_TEST_WORKER"

const notConfined = "not confined:"

func TestMain(m *testing.M) {
	if os.Getenv(asWorker) == "" {
		os.Exit(m.Run())
	}
	unbound := Confine()
	if unbound != nil {
		fmt.Fprintln(os.Stderr, notConfined, unbound)
	}
	err := Work(context.Background(), os.Stdin, os.Stdout, func(config []byte) (Reader, error) {
		if string(config) == "crash" {
			return counter(1, func(context.Context) error { os.Exit(7); return nil }), nil
		}
		if end, ok := bombs()[string(config)]; ok && unbound != nil {
			return nil, unbound // it would take the machine
		} else if ok {
			return counter(0, end), nil
		}
		return counter(3, hang), nil
	})
	if err != nil {
		os.Exit(1)
	}
}

// TestExec_Worker runs real processes: one that crashes after each commit, one that stays.
func TestExec_Worker(t *testing.T) {
	for _, config := range []string{"", "crash"} {
		ctx, cancel := context.WithCancel(t.Context())
		d := newDisk(t)
		spawn := func(context.Context) (Process, error) {
			return Exec(os.Args[0], nil, []string{asWorker + "=1"}, os.Stderr)
		}
		s := NewSupervisor(Config{ID: "s1", Worker: []byte(config)}, spawn, d, func() mesh.Nanos { return 1000 }, quiet())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		late := time.After(20 * time.Second)
		for s.Status().Proof < 130 {
			select {
			case <-d.moved:
			case <-time.After(10 * time.Millisecond): // the status moves just behind the disk
			case <-late:
				t.Fatalf("config %q: only %s, status %+v", config, d.told(), s.Status())
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
