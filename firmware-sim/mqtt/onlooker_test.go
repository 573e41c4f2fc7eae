package mqtt

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestServer_OnlookersSee: who has no session that lasts sees what comes, as often as the
// listener, and takes nothing from it.
func TestServer_OnlookersSee(t *testing.T) {
	s, _ := serve(t, Config{})
	s.Push(emission(0))
	s.Prove(start)
	looks := join(t, s, "looks", 100, true, 0)
	if r := looks.subscribe("plant/line3/filler"); r > 2 {
		t.Fatalf("onlooker: suback %d", r)
	}
	s.Push(emission(1))
	s.Prove(start.Add(time.Second))
	for seen := false; !seen; { // what was said before may still come
		h, ok := looks.next(20 * time.Second)
		if !ok {
			t.Fatal("the onlooker never saw the value")
		}
		seen = strings.Contains(h.body, `"produced":1}`)
	}
	a := connect(t, s, "agent", 100, false)
	if r := a.subscribe("plant/line3/filler"); r != 1 {
		t.Fatalf("listener: suback %d", r)
	}
	for i := range 2 {
		if h, ok := a.next(20 * time.Second); !ok || h.id == 0 || !strings.Contains(h.body, fmt.Sprintf(`"produced":%d}`, i)) {
			t.Errorf("message %d to the listener: %+v", i, h)
		}
	}
}
