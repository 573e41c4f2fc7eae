package demo

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"
)

func TestOptions_RefusesWhatNoPlantCanDo(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	for name, o := range map[string]Options{
		"speed NaN":      {Speed: math.NaN(), For: time.Hour},
		"speed infinite": {Speed: math.Inf(1), For: time.Hour},
		"speed 0":        {For: time.Hour},
		"speed below 0":  {Speed: -1, For: time.Hour},
		"short history":  {Speed: 60, For: time.Hour, History: 23 * time.Hour},
		"long history":   {Speed: 60, For: time.Hour, History: 49 * time.Hour},
		"for 1ns":        {Speed: 1, For: 1},
		"for 1.5ms":      {Speed: 1, For: 1500 * time.Microsecond},
		"for below 0":    {Speed: 1, For: -time.Hour},
	} {
		if _, err := o.plan(now); !errors.Is(err, ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Options{Speed: 60, For: 1500 * time.Millisecond}).plan(now); err != nil {
		t.Error(err)
	}
}

func TestFree_SaysWhatIsWrongWithAnAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for listen, want := range map[string]error{
		"127.0.0.1:99999": ErrUsage, "127.0.0.1:http": ErrUsage, "127.0.0.1:-1": ErrUsage, "127.0.0.1": ErrUsage, "0.0.0.0:0": ErrUsage,
		l.Addr().String(): ErrInUse,
	} {
		_, err := free(t.Context(), listen)
		if !errors.Is(err, want) || errors.Is(err, ErrInUse) != errors.Is(want, ErrInUse) {
			t.Errorf("%s: %v", listen, err)
		}
		if err != nil && !strings.Contains(err.Error(), listen) {
			t.Errorf("%q does not name %s", err, listen)
		}
	}
	if at, err := free(t.Context(), "127.0.0.1:0"); err != nil || strings.HasSuffix(at, ":0") {
		t.Errorf("%s, %v", at, err)
	}
}

// TestTold_EndsTheDemoWhenNobodyListens: the reader of a pipe went away.
func TestTold_EndsTheDemoWhenNobodyListens(t *testing.T) {
	ctx, gone := context.WithCancel(t.Context())
	defer gone()
	r, w := io.Pipe()
	go io.ReadAll(io.LimitReader(r, 5))
	out := told{w, gone}
	if _, err := out.Write([]byte("first")); err != nil || ctx.Err() != nil {
		t.Fatalf("while somebody reads: %v, %v", err, ctx.Err())
	}
	r.Close()
	if _, err := out.Write([]byte("second")); err == nil || ctx.Err() == nil {
		t.Errorf("nobody reads: %v, and the demo goes on: %v", err, ctx.Err())
	}
}
