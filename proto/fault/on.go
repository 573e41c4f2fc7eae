//go:build faultinject

package fault

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// ErrInjected is what Err gives.
var ErrInjected = errors.New("this fault was asked for")

// plan is what the environment asks for.
type plan struct {
	name, action string
	hit          int64
	onwards      bool
	passed       atomic.Int64
}

var asked = sync.OnceValue(func() *plan {
	p, err := parse(os.Getenv("PLANTMESH_FAULT"))
	if err != nil {
		panic(err)
	}
	return p
})

func parse(s string) (*plan, error) {
	if s == "" {
		return &plan{}, nil
	}
	parts := strings.Split(s, ":")
	p := &plan{name: parts[0], hit: 1}
	if len(parts) > 1 {
		p.action = parts[1]
	}
	if len(parts) > 2 {
		n, ok := strings.CutPrefix(parts[2], "hit=")
		n, p.onwards = strings.CutSuffix(n, "+")
		var err error
		if p.hit, err = strconv.ParseInt(n, 10, 64); err != nil || !ok || p.hit < 1 {
			return nil, fmt.Errorf("PLANTMESH_FAULT=%s: hit= wants a number from 1 on", s)
		}
	}
	if len(parts) > 3 || p.action != "exit137" && p.action != "panic" && p.action != "err" {
		return nil, fmt.Errorf("PLANTMESH_FAULT=%s: write name:exit137|panic|err:hit=n", s)
	}
	return p, nil
}

// due counts a passing and says whether the fault is due.
func (p *plan) due(name string) bool {
	if p.name != name {
		return false
	}
	n := p.passed.Add(1)
	return n == p.hit || p.onwards && n > p.hit
}

// Point ends the process if that is asked for here.
func Point(name string) {
	p := asked()
	if !p.due(name) {
		return
	}
	fmt.Fprintf(os.Stderr, "fault: %s: %s\n", name, p.action)
	if p.action == "exit137" {
		os.Exit(137)
	}
	panic("fault: " + name)
}

// Err is an error if one is asked for here.
func Err(name string) error {
	p := asked()
	if !p.due(name) {
		return nil
	}
	fmt.Fprintf(os.Stderr, "fault: %s: %s\n", name, p.action)
	switch p.action {
	case "exit137":
		os.Exit(137)
	case "panic":
		panic("fault: " + name)
	}
	return fmt.Errorf("%s: %w", name, ErrInjected)
}
