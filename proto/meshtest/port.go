package meshtest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports below those that systems give to whoever calls somebody: Linux has 32768 to 60999,
// others 49152 on. A port of theirs that was free a moment ago may be a caller's own by the
// time a program listens there.
const (
	lowestPort  = 10_000
	highestPort = 32_000
)

// Vacant is an address of this machine, 127.0.0.1:port, where nobody listens, for a program
// that is started later. Tests beside this one hardly find the same.
func Vacant(t testing.TB) string {
	t.Helper()
	var last error
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowestPort+rand.IntN(highestPort-lowestPort))) //nolint:gosec // it is no secret
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		if err != nil {
			last = err
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatalf("no port is free: %v", last)
	return ""
}

// VacantPort is the port of Vacant.
func VacantPort(t testing.TB) int {
	t.Helper()
	_, port, err := net.SplitHostPort(Vacant(t))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
