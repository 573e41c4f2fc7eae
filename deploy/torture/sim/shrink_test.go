package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
		if size = size / 2; size == 0 && taken {
			size = 1
		}
	}
	return p
}

// tale is a run for people to read.
func tale(ctx context.Context, k kit, p plan, c control) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %s, %d events, small=%v drops=%v keep=%v\n", p.seed, c, len(p.events), p.small, p.drops, p.keep)
	v, w := play(ctx, k, p, c, func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) })
	fmt.Fprintf(&b, "    %s: %s\n    trace %016x\n", v.kind(), v, w.trace)
	return b.String()
}
