package forward

import (
	"io"
	"net"
	"strings"
	"testing"
)

func TestAddress(t *testing.T) {
	for hub, want := range map[string]string{
		"nats://hub.example.com": "hub.example.com 4222", "tls://hub:5222": "hub 5222", "wss://hub.example.com": "hub.example.com 443",
		"ws://[2001:db8::1]": "2001:db8::1 80", "nats://": "", "hub": "",
	} {
		host, port, err := Address(hub)
		if got := strings.TrimSpace(host + " " + port); got != want || (err == nil) != (want != "") {
			t.Errorf("%s is %q, %v", hub, got, err)
		}
	}
}

// Who answers in the hub's place is named, and what has no end is not read to its end.
func TestGreet_Others(t *testing.T) {
	for name, c := range map[string]struct{ says, other, err string }{
		"a server without protection": {"INFO {\"server_id\":\"x\"}\r\n", "", ""},
		"a proxy":                     {"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "HTTP/1.1 407 Proxy Authentication Required", ""},
		"another program":             {"220 mail ready\r\n", "220 mail ready", ""},
		"a line that is none":         {"INFO x\r\n", "INFO x", ""},
		"no end":                      {strings.Repeat("a", 2*maxInfo), strings.Repeat("a", 100), ""},
		"nothing":                     {"", "", "says nothing"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			in, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(in, c.says) // who has enough goes away
			in.Close()
		}()
		g, err := Greet(t.Context(), DialConfig{URL: "nats://" + l.Addr().String()})
		if g.Other != c.other || g.Protected || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
