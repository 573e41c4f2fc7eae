package mqtt

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// watched has no heartbeat: speed declares a silence of 60 s, the capper's
// counter one of 90 s.
func watched(t *testing.T, resume []byte) *intake {
	t.Helper()
	cfg := testConfig(t)
	cfg.Heartbeat = Heartbeat{}
	cfg.Signals[1].MaxSilence = strict.Duration(60 * time.Second)
	cfg.Signals[4].MaxSilence = strict.Duration(90 * time.Second)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	in, err := newIntake(cfg, resume, nil)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestVigil_ProvesBetweenMessages(t *testing.T) {
	filler := func(in *intake, s int64) {
		in.take(speed(1, false, noon+mesh.Nanos(s)*1e9, 1), "", noon+mesh.Nanos(s)*1e9)
	}
	capper := func(in *intake, s int64) {
		at := noon + mesh.Nanos(s)*1e9
		in.take(publish(2, false, "plant/line3/capper", fmt.Sprintf(`{"ts":%d,"produced":1}`, at/1e6)), "", at)
	}
	for _, c := range []struct {
		name string
		do   func(in *intake)
		want string
	}{
		{"one of two was never heard", func(in *intake) { filler(in, 0); filler(in, 50) }, ""},
		{"begins when the last was heard, ends at the one that is behind", func(in *intake) {
			filler(in, 0)
			capper(in, 10)
			filler(in, 50)
			capper(in, 80)
			filler(in, 100)
		}, "10-75"},
		{"a dead device is never claimed", func(in *intake) {
			capper(in, 0)
			filler(in, 1)
			for s := int64(10); s <= 500; s += 10 {
				filler(in, s)
			}
		}, ""},
		{"a silence too long is a gap", func(in *intake) {
			filler(in, 0)
			capper(in, 0)
			filler(in, 50)
			capper(in, 50)
			filler(in, 111) // 61 s
			capper(in, 120)
			filler(in, 160)
			capper(in, 160)
		}, "0-45 111-155"},
		{"signals without max_silence prove nothing", func(in *intake) {
			filler(in, 0)
			capper(in, 0)
			for s := int64(1); s < 60; s++ {
				in.take(publish(1, false, "plant/line3/filler", fmt.Sprintf(`{"ts":%d,"blocked":true}`, int64(noon)/1e6+1000*s)), "", noon+mesh.Nanos(s)*1e9)
			}
		}, ""},
		{"a stamp of tomorrow proves nothing", func(in *intake) {
			filler(in, 0)
			capper(in, 0)
			in.take(speed(1, false, noon+86_400e9, 1), "", noon+1e9)
			filler(in, 50)
			capper(in, 60)
		}, "0-45"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := watched(t, nil)
			in.connected(false)
			in.subscribed()
			c.do(in)
			if got := proven(t, in); got != c.want {
				t.Errorf("proven %q, want %q", got, c.want)
			}
		})
	}
}

// proven tells what the next offer claims, in seconds after noon.
func proven(t *testing.T, in *intake) string {
	t.Helper()
	var out []string
	batches, _ := contents(t, seal(t, in))
	for _, b := range batches {
		if !b.Proven.Empty() {
			out = append(out, fmt.Sprintf("%d-%d", (b.Proven.From-noon)/1e9, (b.Proven.To-noon)/1e9))
		}
	}
	return strings.Join(out, " ")
}

func TestVigil_GoesOnAfterARestart(t *testing.T) {
	in := watched(t, nil)
	in.connected(false)
	in.subscribed()
	in.take(publish(1, false, "plant/line3/capper", `{"ts":1767268800000,"produced":1}`), "", noon)
	in.take(speed(2, false, noon, 1), "", noon)
	state := seal(t, in).State
	in = watched(t, state)
	in.connected(true)
	in.take(publish(3, false, "plant/line3/capper", `{"ts":1767268850000,"produced":1}`), "", noon+50e9)
	in.take(speed(4, false, noon+55e9, 1), "", noon+55e9)
	if got := proven(t, in); got != "0-45" {
		t.Errorf("proven %q", got)
	}
	if in := testIntake(t, state); !in.fresh { // now a heartbeat proves it
		t.Error("the proof of max_silence was taken over by another")
	}
}

func TestWatch_Words(t *testing.T) {
	began := time.Unix(1000, 0)
	say := func(in *intake, after time.Duration, events ...func(*watch)) string {
		t.Helper()
		w := newWatch(in.cfg, in, began)
		for _, e := range events {
			e(w)
		}
		text, _ := w.news(began.Add(after))
		return text
	}
	up := []func(*watch){func(w *watch) { w.connected(began) }, (*watch).subscribed}
	none := testIntake(t, nil)
	none.cfg.Heartbeat = Heartbeat{Every: none.cfg.Heartbeat.Every}
	counted := testIntake(t, nil)
	counted.counters = counters{messages: 9, unknown: 3, foreign: 2, retained: 1, skipped: 5}
	for want, got := range map[string]string{
		"":                                  say(testIntake(t, nil), time.Hour),
		"connected":                         say(testIntake(t, nil), time.Second, up...),
		"not connected: connection refused": say(testIntake(t, nil), time.Hour, append(up, func(w *watch) { w.lost("connection refused", began) })...),
		"connected, but nothing more is proven: no heartbeat on plant/line3/heartbeat":                                                     say(testIntake(t, nil), time.Minute, up...),
		"connected, but nothing more is proven: line3.filler.speed was not heard yet":                                                      say(watched(t, nil), 4*time.Minute, up...),
		"connected, heard, but unproven: no heartbeat or max_silence declared":                                                             say(none, time.Second, up...),
		"connected; left out: 3 values of unknown keys, 5 values by a condition (when), 2 messages of foreign topics, 1 retained messages": say(counted, time.Second, up...),
	} {
		if got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
	}
}
