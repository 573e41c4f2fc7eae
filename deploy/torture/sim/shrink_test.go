package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// play runs a schedule. listen may be nil.
func play(ctx context.Context, k kit, p plan, c control, listen func(string, ...any)) (verdict, *world) {
	w := newWorld(ctx, k, p, c)
	w.story = listen
	return w.run(), w
}

// shrink takes events away as long as the schedule fails in the same way.
func shrink(ctx context.Context, k kit, p plan, c control) plan {
	v, _ := play(ctx, k, p, c, nil)
	fails := func(events []event) bool {
		q := p
		q.events = events
		w, _ := play(ctx, k, q, c, nil)
		return w.kind() == v.kind()
	}
	for size := len(p.events) / 2; size > 0; {
		taken := false
		for from := 0; from < len(p.events); {
			less := slices.Concat(p.events[:from], p.events[min(from+size, len(p.events)):])
			if fails(less) {
				p.events, taken = less, true
				continue
			}
			from += size
		}
		if size /= 2; size == 0 && taken {
			size = 1
		}
	}
	return p
}

// tale is a run for people to read.
func tale(ctx context.Context, k kit, p plan, c control) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %s, %d events\n%s", p.seed, c, len(p.events), p)
	last, times := "", 0
	say := func(line string) {
		if line == last { // rounds without faults look alike
			times++
			return
		}
		if times > 0 {
			fmt.Fprintf(&b, "        (%d times more)\n", times)
		}
		last, times = line, 0
		fmt.Fprintln(&b, line)
	}
	v, w := play(ctx, k, p, c, func(format string, args ...any) { say(fmt.Sprintf(format, args...)) })
	fmt.Fprintf(&b, "    %s: %s\n    trace %016x\n", v.kind(), v, w.trace)
	b.WriteString(w.records())
	return b.String()
}

// records are what the first agent's log holds.
func (w *world) records() string {
	var b strings.Builder
	a := w.agents[0]
	for after := (mesh.Position{}); a.up(); {
		records, err := a.buf.Peek(after, 1<<20)
		if err != nil || len(records) == 0 {
			break
		}
		for _, r := range records {
			h, err := wire.ParseHeader(r.Sealed)
			fmt.Fprintf(&b, "    %s %s %s %d samples %v", r.At, h.Kind, h.About, h.Count, err)
			if v, err := wire.OpenVoid(r.Sealed); err == nil && h.Kind == mesh.KindVoid {
				fmt.Fprintf(&b, " %s %v", v.Cause, v.Lost)
			}
			b.WriteByte('\n')
		}
		after = records[len(records)-1].At
	}
	if acc := w.store.now.accounts[agentLog]; acc != nil {
		fmt.Fprintf(&b, "    hub: %+v\n", *acc)
	}
	return b.String()
}
