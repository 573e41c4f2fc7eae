// Package systemd tells the service manager that started a daemon how it is, by
// sd_notify(3): a datagram to the socket it named. Where it named none, as at a
// shell, nothing is told.
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Manager is the service manager. The zero value is none. Safe for concurrent use.
type Manager struct {
	socket   string
	watchdog time.Duration // it ends the daemon that says nothing for so long; 0: never
}

// Of reads what the manager put into the environment of the process pid.
func Of(getenv func(string) string, pid int) Manager {
	m := Manager{socket: getenv("NOTIFY_SOCKET")}
	if !strings.HasPrefix(m.socket, "/") && !strings.HasPrefix(m.socket, "@") {
		return Manager{} // only those are addresses of a manager
	}
	// sd_watchdog_enabled(3): the time is meant for the process of that id, or for any.
	if of := getenv("WATCHDOG_PID"); of != "" && of != strconv.Itoa(pid) {
		return m
	}
	if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
		m.watchdog = time.Duration(us) * time.Microsecond
	}
	return m
}

// Ready says that the daemon does its work, and in one line what it is.
func (m *Manager) Ready(status string) error {
	return m.tell("READY=1\nSTATUS=" + strings.ReplaceAll(status, "\n", " "))
}

// Stopping says that it ends.
func (m *Manager) Stopping() error { return m.tell("STOPPING=1") }

func (m *Manager) tell(state string) error {
	if m.socket == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer c.Close() //nolint:errcheck // a datagram is sent or not when Write returns
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

// Loop is a loop that must turn for the daemon to do its work. Safe for
// concurrent use.
type Loop struct {
	Name   string // for people
	turned atomic.Bool
}

// Turn notes that it has turned once more.
func (l *Loop) Turn() { l.turned.Store(true) }

// looks is how often the loops are looked at within the watchdog's time.
const looks = 4

// Watch answers the watchdog until ctx ends, each time all loops have turned
// since it answered last: a loop that stands still ends the daemon, which then
// starts anew. slowest is the longest that a loop may take for one turn; where
// the watchdog has less patience than that, it is asked for more.
func (m *Manager) Watch(ctx context.Context, slowest time.Duration, log *slog.Logger, loops ...*Loop) error {
	if m.watchdog == 0 {
		return nil
	}
	patience := m.watchdog
	if least := looks * slowest; patience < least {
		patience = least
		if err := m.tell(fmt.Sprintf("WATCHDOG_USEC=%d", patience.Microseconds())); err != nil {
			log.WarnContext(ctx, "the watchdog keeps its time", "err", err)
		}
	}
	answer(ctx, patience/looks, m.tell, log, loops)
	return nil
}

// answer tells the watchdog at each look that finds all loops turned.
func answer(ctx context.Context, every time.Duration, tell func(state string) error, log *slog.Logger, loops []*Loop) {
	t := time.NewTicker(every)
	defer t.Stop()
	for missed, told := 0, ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if still := standing(loops); still != "" {
			if missed++; missed == looks/2 {
				log.WarnContext(ctx, "the watchdog gets no answer: a loop stands still", "loop", still)
			}
			continue
		}
		missed = 0
		for _, l := range loops {
			l.turned.Store(false)
		}
		switch err := tell("WATCHDOG=1"); {
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			log.WarnContext(ctx, "the watchdog is not answered", "err", err)
		}
	}
}

// standing names the loops that have not turned; empty: all have.
func standing(loops []*Loop) string {
	var names []string
	for _, l := range loops {
		if !l.turned.Load() {
			names = append(names, l.Name)
		}
	}
	return strings.Join(names, ", ")
}
