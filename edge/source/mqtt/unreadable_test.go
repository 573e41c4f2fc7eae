package mqtt

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"plantmesh/edge/source/mqtt/mapping"
	"plantmesh/proto/mesh"
)

// told are samples in words: signal, second after noon, status or value.
func told(batches []mesh.Batch) string {
	var out []string
	for _, b := range batches {
		for _, s := range b.Samples {
			text := s.Value.String()
			if s.Status.IsBad() {
				text = fmt.Sprintf("!%08x", uint32(s.Status))
			}
			out = append(out, fmt.Sprintf("%d@%d %s", s.Signal, (s.Time-noon)/1e9, text))
		}
	}
	return strings.Join(out, ", ")
}

func TestIntake_UnreadableValueEndsTheOneBefore(t *testing.T) {
	for _, c := range []struct {
		name, payload, want, reason string
	}{
		{"text for a number", `{"ts":1767268810000,"speed":"x"}`, "1@10 !80740000", "another type"},
		{"out of range", `{"ts":1767268810000,"speed":1e400}`, "1@10 !803c0000", "out of range"},
		{"an integer out of range", `{"ts":1767268810000,"produced":1e400}`, "0@10 !803c0000", "out of range"},
		{"a key twice", `{"ts":1767268810000,"speed":1,"speed":2,"blocked":true}`, "1@10 !80070000, 3@10 true", "stands twice"},
		{"a time twice", `{"ts":1767268810000,"ts":1767268810001,"speed":1}`, "0@10 !80070000, 1@10 !80070000, 2@10 !80070000, 3@10 !80070000", "stands twice"},
		{"no UTF-8", "{\"ts\":1767268810000,\"order\":\"\xff\"}", "0@10 !80070000, 1@10 !80070000, 2@10 !80070000, 3@10 !80070000", "valid UTF-8"},
		{"no JSON", `{"ts":1767268810000`, "0@10 !80070000, 1@10 !80070000, 2@10 !80070000, 3@10 !80070000", "no JSON object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := testIntake(t, nil)
			in.connected(false)
			in.subscribed()
			in.take(beat(1, noon), "", noon)
			in.take(speed(2, false, noon, 5), "", noon)
			in.take(beat(3, noon+15e9), "", noon+15e9) // proven through 10
			seal(t, in)
			in.take(publish(4, false, "plant/line3/filler", c.payload), "", noon+3600e9)
			in.take(publish(5, false, "plant/line3/filler", c.payload), "", noon+3600e9)
			in.take(speed(6, false, noon+11e9, 6), "", noon+3600e9)
			in.take(beat(7, noon+20e9), "", noon+20e9)
			batches, voids := contents(t, seal(t, in))
			got := told(batches)
			for x := range strings.SplitSeq(c.want, ", ") {
				if !strings.Contains(got, x) {
					t.Errorf("got %s, want %s", got, x)
				}
			}
			if !strings.Contains(got, "1@11 6") {
				t.Errorf("the next good value is not there: %s", got)
			}
			if len(voids) != 1 || !strings.Contains(voids[0].Note, c.reason) {
				t.Errorf("voids %+v", voids)
			}
		})
	}
}

// A payload that is too large makes the signals of its own topic Bad, and no others.
func TestIntake_BlackoutIsOfOneTopicAndSaidOnce(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	large := publish(1, false, "plant/line3/capper", "xxx")
	large.TooLarge = true
	in.take(large, "", noon+1e9)
	in.take(large, "", noon+2e9)
	batches, _ := contents(t, seal(t, in))
	if got := told(batches); got != "4@1 !80080000" {
		t.Errorf("got %s", got)
	}
	in.take(publish(2, false, "plant/line3/capper", `{"ts":1767268805000,"produced":1}`), "", noon+5e9)
	in.take(large, "", noon+6e9)
	batches, _ = contents(t, seal(t, in))
	if got := told(batches); got != "4@5 1, 4@5 !80080000" {
		t.Errorf("got %s", got)
	}
}

func TestIntake_EachReasonHasItsVoid(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	for i := range uint16(100) {
		in.take(publish(i, false, "plant/line3/filler", `{"ts":1767268800000,"speed":"x","produced":1.5,"blocked":1}`), "", noon)
		in.take(publish(i, false, "plant/line3/filler", `x`), "", noon)
	}
	_, voids := contents(t, seal(t, in))
	var notes []string
	count := uint64(0)
	for _, v := range voids {
		notes = append(notes, v.Note)
		for _, p := range v.Parts {
			count += p.Count
		}
	}
	if len(voids) != 4 || count != 400 {
		t.Errorf("count %d: %q", count, notes)
	}

	var r refusals
	for i := range 20 {
		r.add(mapping.Flaw{Fault: fmt.Errorf("reason %d", i), Count: 1}, "a", nil, mesh.Part{})
	}
	rest := r.take()
	if last := rest[len(rest)-1]; len(rest) != maxReasons || !strings.HasPrefix(last.Note, "several reasons") || last.Parts[0].Count != 13 {
		t.Errorf("%d voids, the last %+v", len(rest), last)
	}
}

// A device whose clock is ahead sends a text for a number, once a second.
func TestIntake_StateStaysSmallUnderBadPayloadsFromTheFuture(t *testing.T) {
	for _, ahead := range []time.Duration{50 * 365 * 24 * time.Hour, time.Minute} {
		in := testIntake(t, nil)
		in.connected(false)
		in.subscribed()
		now, largest := noon, 0
		for i := range 20_000 {
			now += 1e9
			in.take(publish(uint16(i%400+1), false, "plant/line3/filler", fmt.Sprintf(`{"ts":%d,"speed":"x"}`, now.Add(ahead)/1e6)), "", now)
			in.take(beat(uint16(i%400+401), now), "", now)
			if i%50 == 0 {
				largest = max(largest, len(seal(t, in).State))
			}
		}
		if holes := len(in.sealer.Holes()); ahead > time.Hour && holes != 0 || largest > 20_000 {
			t.Errorf("%s ahead: %d holes, state of %d bytes", ahead, holes, largest)
		}
	}
}

// The broker is away for 95 s. With the session kept the stretch is claimed
// behind the void in the log; without it the void is all there is.
func TestIntake_UnheardIsBridgedOrNot(t *testing.T) {
	for _, kept := range []bool{true, false} {
		in := testIntake(t, nil)
		in.connected(false)
		in.subscribed()
		in.take(beat(1, noon), "", noon)
		in.take(beat(2, noon+65e9), "", noon+65e9)
		seal(t, in)
		in.unheard(noon+75e9, "not connected: connection refused")
		if !in.due(time.Unix(0, 0)) {
			t.Fatal("not sealed at once")
		}
		o := seal(t, in)
		_, voids := contents(t, o)
		if len(voids) != 1 || voids[0].Cause != mesh.CauseDisconnected || voids[0].Parts[0].Times != (mesh.Span{From: noon + 60e9, To: noon + 75e9}) || !strings.Contains(voids[0].Note, "refused") {
			t.Errorf("voids %+v", voids)
		}
		in = testIntake(t, o.State) // and the worker dies meanwhile
		in.connected(kept)
		in.subscribed()
		in.take(beat(3, noon+160e9), "", noon+160e9)
		in.take(beat(4, noon+170e9), "", noon+170e9)
		want := "60-165"
		if !kept {
			want = "160-165"
		}
		if got := proven(t, in); got != want {
			t.Errorf("session kept %t: proven %s, want %s", kept, got, want)
		}
	}
}

// The clock is the bubble's; only the refused connection is real.
func TestReader_UnreachableBrokerIsAVoid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r, err := New(*testConfig(t), func() mesh.Nanos { return noon.Add(time.Since(began)) }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r.cfg.URL = "mqtt://127.0.0.1:1"
		d := newDisk()
		d.state = fmt.Appendf(nil, `{"proof_ns":%d,"filters":"plant/line3/+"}`, noon-5e9)
		ctx, cancel := context.WithTimeout(t.Context(), 95*time.Second)
		defer cancel()
		if err := d.run(ctx, r, 0); err != nil {
			t.Error(err)
		}
		_, _, voids := d.samples(t)
		if len(voids) != 2 {
			t.Fatalf("voids %+v", voids)
		}
		for i, v := range voids {
			times := v.Parts[0].Times
			if late := times.To.Sub(noon.Add(10*time.Second + time.Duration(i)*time.Minute)); times.From != noon-5e9 || late < 0 || late > time.Second || !strings.Contains(v.Note, "connection refused") {
				t.Errorf("void %+v", v)
			}
		}
	})
}
