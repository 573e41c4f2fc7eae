package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"plantmesh/edge/check"
	"plantmesh/edge/forward"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/status"
	"plantmesh/proto/strict"
)

// Checkup are the checks of this gateway. It looks at what there is, whether an agent
// runs or not, and never opens the buffer beside it: of that the agent is asked.
type Checkup struct {
	cfg   Config
	path  string
	fault error // edge.yaml is no configuration at all
	log   *slog.Logger
	sync  func(*os.File) error // makes a file durable; nil: as the system does it
	// discreet: what is told has no value of a signal.
	discreet bool

	// What several checks look at is asked for once.
	running func() (status.Snapshot, error)
	page    func() paged
}

// finding is what is found out of an OPC UA server, once.
type finding struct {
	survey func() (opcua.Survey, error)
	trials func() ([]opcua.Trial, error)
}

// NewCheckup reads the configuration at path as far as it can be. What is asked of others
// ends with ctx. sync makes a file durable; nil: as the system does it.
func NewCheckup(ctx context.Context, path string, sync func(*os.File) error) *Checkup {
	c := &Checkup{path: path, log: slog.New(slog.DiscardHandler), sync: sync}
	c.cfg, c.fault = OpenConfig(path)
	c.running = once(func() (status.Snapshot, error) { return Status(ctx, c.cfg) })
	page := once(func() (paged, error) { return c.visitPage(ctx), nil })
	c.page = func() paged { p, _ := page(); return p } // it has no error of its own
	return c
}

// once is sync.OnceValues by a name that is not this package's.
func once[T any](f func() (T, error)) func() (T, error) { return sync.OnceValues(f) }

// All are the checks in the order of the catalogue.
func (c *Checkup) All(ctx context.Context) []check.Check {
	looks := map[string]*finding{}
	if c.fault == nil {
		for i := range c.cfg.Sources {
			if s := &c.cfg.Sources[i]; s.OPCUA != nil {
				looks[s.ID()] = c.looking(ctx, *s.OPCUA)
			}
		}
	}
	out := c.ofSystem(looks)
	out = append(out, c.ofConfiguration()...)
	out = append(out, c.ofIdentity()...)
	out = append(out, c.ofCloud()...)
	if c.fault == nil {
		for i := range c.cfg.Sources {
			out = append(out, c.ofSource(&c.cfg.Sources[i], looks[c.cfg.Sources[i].ID()])...)
		}
	}
	return append(out, c.ofBuffer()...)
}

// Path is the configuration's file, as commands that help name it.
func (c *Checkup) Path() string { return c.path }

// Fault is why an error of a report says more than that a check has failed: a fault in a
// file, which every command answers alike.
func Fault(r *check.Report) error {
	for _, o := range r.Checks {
		if f, ok := errors.AsType[*strict.Fault](o.Err); ok && o.Result.Red() {
			return f
		}
	}
	return nil
}

// plain is a check without a context: it looks at what lies here.
func plain(f func() check.Result) func(context.Context) check.Result {
	return func(context.Context) check.Result { return f() }
}

// faulty is a fault in a file as a result.
func faulty(kind check.Kind, err error) check.Result {
	r := check.Result{Kind: kind, Message: err.Error(), Err: err}
	if f, ok := errors.AsType[*strict.Fault](err); ok {
		r.Fix = f.Hint()
	}
	return r
}

// enrolled: address, key and token are named, and their files are there.
func (c *Checkup) enrolled() bool {
	for _, path := range []string{c.cfg.Hub.Key, c.cfg.Hub.Token} {
		if _, err := os.Stat(path); path == "" || errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return c.cfg.Hub.URL != ""
}

// dial is how the hub is called.
func (c *Checkup) dial() forward.DialConfig {
	return c.cfg.dial(c.cfg.newest())
}

// rounded is a time for people.
func rounded(d time.Duration) string {
	switch {
	case d.Abs() >= time.Minute:
		return d.Round(time.Second).String()
	case d.Abs() >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
}
