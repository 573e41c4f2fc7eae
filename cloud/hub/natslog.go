package hub

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// natsLog hands the server's log lines on. Its notices are ours at debug: a hub's log is
// one line per change of state. What callers can cause as often as they like, such as
// trying a subject that is not theirs, leaves a line a second; the others are counted.
type natsLog struct {
	log  *slog.Logger
	line *rate.Limiter
	left *atomic.Uint64 // lines that were not written since the last one
}

// Lines of the server: a second, and at once.
const (
	natsLines = 1
	natsBurst = 20
)

func newNATSLog(log *slog.Logger) natsLog {
	return natsLog{log, rate.NewLimiter(natsLines, natsBurst), &atomic.Uint64{}}
}

func (l natsLog) Noticef(format string, v ...any) {
	l.log.Debug("nats notice", "nats", fmt.Sprintf(format, v...))
}

func (l natsLog) Warnf(format string, v ...any) { l.tell("nats warns", format, v) }

func (l natsLog) Fatalf(format string, v ...any) {
	l.log.Error("nats gave up", "nats", fmt.Sprintf(format, v...))
}

func (l natsLog) Errorf(format string, v ...any) { l.tell("nats error", format, v) }

func (l natsLog) Debugf(format string, v ...any) {
	l.log.Debug("nats debug", "nats", fmt.Sprintf(format, v...))
}

func (l natsLog) Tracef(format string, v ...any) {
	l.log.Debug("nats trace", "nats", fmt.Sprintf(format, v...))
}

// tell writes a line, if there were not too many.
func (l natsLog) tell(what, format string, v []any) {
	if !l.line.Allow() {
		l.left.Add(1)
		return
	}
	said := fmt.Sprintf(format, v...)
	if strings.Contains(said, " Violation") {
		what = "a caller tried a subject that is not its own: it was refused"
	}
	l.log.Warn(what, "nats", said, "not_written_before", l.left.Swap(0)) //nolint:sloglint // one of three constants
}
