package mqtt

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
)

// attending runs a test of a listener; end gives what it heard.
func attending(t *testing.T, cfg ListenerConfig, stay link.Stay) (address string, end func() Attended) {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	open, done := make(chan string, 1), make(chan Attended, 1)
	stay.Open = func(address string) { open <- address }
	go func() {
		a, err := Attend(t.Context(), &cfg, stay, func() mesh.Nanos { return noon })
		if err != nil {
			t.Error(err)
		}
		done <- a
	}()
	select {
	case address = <-open:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not listen")
	}
	return address, func() Attended { return <-done }
}

// What a device says to a test it still has for the agent: nothing of it was kept, and
// nothing was acknowledged.
func TestAttend_AcknowledgesNothing(t *testing.T) {
	cfg := listenerConfig(t, "127.0.0.1:0")
	address, end := attending(t, cfg, link.Stay{Messages: 3, Within: 20 * time.Second, Bytes: 1 << 20})
	l, present, err := device(t, address, "filler", "f", link.Hello{ClientID: "f1", CleanStart: true})
	if err != nil || present {
		t.Fatalf("present %t: %v", present, err)
	}
	say(t, l, "plant/line3/filler", produced(1), false)
	say(t, l, "plant/line3/filler", produced(2), false)
	if _, err := l.Publish(link.Message{Topic: "plant/line3/filler", Payload: []byte(produced(3))}); err != nil {
		t.Fatal(err)
	}
	for p := (link.Packet{}); ; { // until it hangs up
		kind, err := l.Next(&p)
		if err != nil {
			break
		}
		t.Errorf("it answers: kind %d, packet id %d", kind, p.ID)
	}
	a := end()
	if len(a.Heard) != 3 || string(a.Heard[1].Payload) != produced(2) || a.Heard[0].At != noon || !slices.Equal(a.Users, []string{"filler", "filler", "filler"}) {
		t.Errorf("heard %+v of %q", a.Heard, a.Users)
	}
	if a.Open != 2 || a.Gone != 1 || a.Callers != 1 || len(a.Refused) != 0 {
		t.Errorf("%+v", a)
	}
}

// A device whose session lasts may hold messages for the agent, and drops them when it
// hears that its session is gone: it is not told so, nor anything else.
func TestAttend_TakesNoSessionThatLasts(t *testing.T) {
	cfg := listenerConfig(t, "127.0.0.1:0")
	address, end := attending(t, cfg, link.Stay{Messages: 1, Within: 20 * time.Second, Bytes: 1 << 20})
	for _, hello := range []link.Hello{{ClientID: "f1", Expiry: time.Hour}, {ClientID: "f1", CleanStart: true, Expiry: time.Hour}, {ClientID: "f1"}} {
		if _, _, err := device(t, address, "filler", "f", hello); err == nil || errors.Is(err, link.ErrRefused) {
			t.Errorf("%+v: %v", hello, err)
		}
	}
	// MQTT 3.1.1, clean session off.
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("\x10\x19\x00\x04MQTT\x04\xc0\x00\x3c\x00\x02f4\x00\x06filler\x00\x01f")); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(c); len(got) > 0 { // it may be reset
		t.Errorf("it answers % x", got)
	}
	// The same device without a session is heard.
	l, _, err := device(t, address, "filler", "f", link.Hello{ClientID: "f1", CleanStart: true})
	if err != nil {
		t.Fatal(err)
	}
	say(t, l, "plant/line3/filler", produced(1), false)
	a := end()
	if len(a.Heard) != 1 || len(a.Refused) != 1 || !strings.HasPrefix(a.Refused[0], "filler: it asks for a session that lasts") || !strings.HasSuffix(a.Refused[0], "(4 times)") {
		t.Errorf("%+v", a)
	}
}

// Who is refused, and why, is the half of a test.
func TestAttend_SaysWhoIsRefused(t *testing.T) {
	cfg := listenerConfig(t, "127.0.0.1:0")
	address, end := attending(t, cfg, link.Stay{Messages: 1, Within: 20 * time.Second, Bytes: 1 << 20})
	for _, c := range [][2]string{{"stranger", "f"}, {"filler", "wrong"}, {"", "f"}} {
		if _, _, err := device(t, address, c[0], c[1], link.Hello{ClientID: "x", CleanStart: true}); err == nil || errors.Is(err, link.ErrRefused) {
			t.Errorf("%q is told %v", c[0], err)
		}
	}
	browser, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer browser.Close()
	if _, err := browser.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(browser); len(got) > 0 { // until it hangs up, which it may do by a reset
		t.Errorf("a browser is answered %q", got)
	}
	l, _, err := device(t, address, "filler", "f", link.Hello{ClientID: "f1", CleanStart: true})
	if err != nil {
		t.Fatal(err)
	}
	say(t, l, "plant/line3/capper", produced(1), false) // not even refused: it still has it
	say(t, l, "plant/line3/filler", produced(2), false)
	for p := (link.Packet{}); ; { // until it hangs up
		kind, err := l.Next(&p)
		if err != nil {
			break
		}
		t.Errorf("it answers: kind %d, packet id %d", kind, p.ID)
	}
	a := end()
	all := strings.Join(a.Refused, "\n")
	for _, want := range []string{`user "stranger" is none of devices`, `user "filler" says another password`, "it says no user", "CONNECT comes first", `filler: it may not publish on "plant/line3/capper"`} {
		if !strings.Contains(all, want) {
			t.Errorf("it lacks %q:\n%s", want, all)
		}
	}
	if len(a.Heard) != 1 || len(a.Refused) != 5 {
		t.Errorf("%+v", a)
	}
}

func TestAttend_WhereSomebodyListensAlready(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg := listenerConfig(t, taken.Addr().String())
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if _, err := Attend(context.Background(), &cfg, link.Stay{Messages: 1, Within: time.Second, Bytes: 1}, nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%v", err)
	}
}
