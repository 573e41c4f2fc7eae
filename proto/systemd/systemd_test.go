package systemd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestOf(t *testing.T) {
	for name, c := range map[string]struct {
		vars map[string]string
		want Manager
	}{
		"a shell":              {nil, Manager{}},
		"no watchdog":          {map[string]string{"NOTIFY_SOCKET": "/run/s"}, Manager{socket: "/run/s"}},
		"a watchdog":           {map[string]string{"NOTIFY_SOCKET": "@s", "WATCHDOG_USEC": "30000000"}, Manager{"@s", 30 * time.Second}},
		"ours":                 {map[string]string{"NOTIFY_SOCKET": "@s", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "7"}, Manager{"@s", time.Microsecond}},
		"another's":            {map[string]string{"NOTIFY_SOCKET": "@s", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "8"}, Manager{socket: "@s"}},
		"no time":              {map[string]string{"NOTIFY_SOCKET": "@s", "WATCHDOG_USEC": "soon"}, Manager{socket: "@s"}},
		"time before it began": {map[string]string{"NOTIFY_SOCKET": "@s", "WATCHDOG_USEC": "-1"}, Manager{socket: "@s"}},
		"no address":           {map[string]string{"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "1"}, Manager{}},
	} {
		if got := Of(env(c.vars), 7); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// manager is a service manager that hears.
func manager(t *testing.T, socket string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// heard is the next thing said, or "" where nothing was.
func heard(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 4096)
	if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(b)
	if err != nil && !strings.Contains(err.Error(), "timeout") {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestManager_TellsOnTheSocket(t *testing.T) {
	at := filepath.Join(t.TempDir(), "notify")
	c := manager(t, at)
	m := Of(env(map[string]string{"NOTIFY_SOCKET": at}), 1)
	if err := m.Ready("two\nlines"); err != nil {
		t.Error(err)
	}
	if err := m.Stopping(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"READY=1\nSTATUS=two lines", "STOPPING=1", ""} {
		if got := heard(t, c); got != want {
			t.Errorf("%q was said, want %q", got, want)
		}
	}
	var none Manager
	if err := none.Ready("x"); err != nil {
		t.Errorf("without a manager: %v", err)
	}
	gone := Of(env(map[string]string{"NOTIFY_SOCKET": at + "-gone"}), 1)
	if err := gone.Ready("x"); err == nil {
		t.Error("nobody listens, and that is no error")
	}
}

// said is a log that two goroutines use.
type said struct {
	mu  sync.Mutex
	all strings.Builder
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// The watchdog hears of a daemon only while all its loops turn.
func TestAnswer_OnlyWhileLoopsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a, b := &Loop{Name: "a"}, &Loop{Name: "b"}
		var (
			log      said
			answered atomic.Int64
			broken   atomic.Bool
		)
		tell := func(state string) error {
			if broken.Load() {
				return errors.New("nobody there")
			}
			if answered.Add(1); state != "WATCHDOG=1" {
				t.Errorf("%q was said", state)
			}
			return nil
		}
		const every = 2 * time.Second
		go answer(ctx, every, tell, slog.New(slog.NewTextHandler(&log, nil)), []*Loop{a, b})
		synctest.Wait()
		look := time.NewTicker(every)
		defer look.Stop()
		after := func(what string, want int64, warnings int, turning ...*Loop) {
			t.Helper()
			for _, l := range turning {
				l.Turn()
			}
			<-look.C
			synctest.Wait()
			if warned := strings.Count(log.String(), "level=WARN"); answered.Load() != want || warned != warnings {
				t.Errorf("%s: answered %d times, warned %d times, want %d and %d\n%s", what, answered.Load(), warned, want, warnings, &log)
			}
		}
		after("nothing turned", 0, 0)
		after("one of two", 0, 1, a)
		after("the other now", 1, 1, b)
		after("both", 2, 1, a, b)
		after("none since", 2, 1)
		after("for half of the time", 2, 2)
		if !strings.Contains(log.String(), `loop="a, b"`) {
			t.Errorf("the loops that stand are not named: %s", &log)
		}
		after("both again", 3, 2, a, b)
		broken.Store(true)
		after("the socket is gone", 3, 3, a, b)
		after("still gone: told once", 3, 3, a, b)
	})
}

func TestManager_WatchAsksForMoreTime(t *testing.T) {
	at := filepath.Join(t.TempDir(), "notify")
	c := manager(t, at)
	m := Of(env(map[string]string{"NOTIFY_SOCKET": at, "WATCHDOG_USEC": "8000000"}), 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Watch(ctx, time.Minute, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	if got := heard(t, c); got != "WATCHDOG_USEC=240000000" {
		t.Errorf("%q was said", got)
	}
}

// Where nobody watches, nothing is said and nothing waits.
func TestManager_WatchOfNobody(t *testing.T) {
	at := filepath.Join(t.TempDir(), "notify")
	c := manager(t, at)
	m := Of(env(map[string]string{"NOTIFY_SOCKET": at}), 1)
	if err := m.Watch(t.Context(), time.Minute, slog.New(slog.DiscardHandler), &Loop{}); err != nil {
		t.Error(err)
	}
	if got := heard(t, c); got != "" {
		t.Errorf("%q was said", got)
	}
}
