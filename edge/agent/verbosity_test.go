package agent

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func TestVerbosity_FallsBackByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := NewVerbosity(slog.LevelInfo)
		says := func() bool { return v.Level() == slog.LevelDebug }
		if says() || v.debugUntil() != "" {
			t.Error("it says everything from the start")
		}
		until := v.Debug(10 * time.Minute)
		if !says() || v.debugUntil() != stamp(until) || time.Until(until) != 10*time.Minute {
			t.Errorf("until %s, %q", until, v.debugUntil())
		}
		<-time.After(10 * time.Minute)
		if says() || v.debugUntil() != "" {
			t.Error("it does not fall back")
		}
		v.Debug(time.Hour)
		if v.Debug(0); says() {
			t.Error("it is not ended")
		}
	})
	if (*Verbosity)(nil).debugUntil() != "" {
		t.Error("one that nobody gave")
	}
}
