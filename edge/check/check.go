// Package check finds out what is wrong with a gateway: named checks that need each
// other, each with a bounded time, and for what is wrong the reason and what helps. What
// a check does is brought along by whoever runs it; here stands in which order, for how
// long, and how it is told.
package check

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/proto/strict"
)

// Kind is how a check ended.
type Kind string

// The kinds there are.
const (
	OK      Kind = "ok"
	Warning Kind = "warning" // it works, and will not for ever, or not in each case
	Error   Kind = "error"   // something doesn't work
	Fatal   Kind = "fatal"   // and nothing behind it can be looked at
	Skipped Kind = "skipped" // what it needs is not in order, or was not looked at in time
	Ignored Kind = "ignored" // it does not apply here; the message says why
)

// Red reports whether something has to be done.
func (k Kind) Red() bool { return k == Error || k == Fatal }

// Result is what a check found. Its texts are for people, one line each.
type Result struct {
	Kind    Kind
	Message string         // what is so
	Why     string         // what it means; empty: as the catalogue says
	Fix     string         // what helps; empty: as the catalogue says
	Details map[string]any // for programs
	Err     error          // what it is made of, where that has an answer of its own
	Repairs []Repair       // what can be done about it without harm
}

// Repair is something that helps, that a program may do: it takes nothing away that somebody
// could need, and done twice it is done once.
type Repair struct {
	Does string       `json:"does"` // as a command line
	Do   func() error `json:"-"`
}

// Good says what is in order.
func Good(format string, args ...any) Result {
	return Result{Kind: OK, Message: fmt.Sprintf(format, args...)}
}

// Warn says what works, and will not in each case, and what helps.
func Warn(fix, format string, args ...any) Result {
	return Result{Kind: Warning, Fix: fix, Message: fmt.Sprintf(format, args...)}
}

// Fail says what does not work, and what helps.
func Fail(fix, format string, args ...any) Result {
	return Result{Kind: Error, Fix: fix, Message: fmt.Sprintf(format, args...)}
}

// None says why a check does not apply.
func None(format string, args ...any) Result {
	return Result{Kind: Ignored, Message: fmt.Sprintf(format, args...)}
}

// Check is one check of this gateway, or of one of its sources. Run must end with ctx;
// one that doesn't is left behind and told.
type Check struct {
	ID     string   // of the catalogue
	Source string   // empty: of the gateway
	Needs  []string // ids that must be in order: of the same source, or of the gateway
	Run    func(ctx context.Context) Result
}

// Selection says which checks run. Empty lists are all.
type Selection struct {
	Sections []string
	Only     []string
	Skip     []string
	Timeout  time.Duration // of all together; 0: defaultTimeout
}

// Bounds of a run.
const (
	defaultTimeout = time.Minute
	defaultWithin  = 10 * time.Second // of one check
	grace          = time.Second      // for a check to see that its time is over
	atOnce         = 8
)

// choose are the checks of the selection.
func (s *Selection) choose(all []Check) (out []Check, err error) {
	var ids []string
	for _, e := range Catalogue() {
		ids = append(ids, e.ID)
	}
	for _, asked := range slices.Concat(s.Only, s.Skip) {
		if err := known(asked, "check", ids); err != nil {
			return nil, err
		}
	}
	for _, asked := range s.Sections {
		if err := known(asked, "section", Sections()); err != nil {
			return nil, err
		}
	}
	for _, c := range all {
		e := entry(c.ID)
		switch {
		case len(s.Sections) > 0 && !slices.Contains(s.Sections, e.Section):
		case len(s.Only) > 0 && !slices.Contains(s.Only, c.ID):
		case slices.Contains(s.Skip, c.ID):
		default:
			out = append(out, c)
		}
	}
	return out, nil
}

// UnknownError is a check or a section that there is none of.
type UnknownError struct{ What, Name, Nearest string }

func (e *UnknownError) Error() string {
	text := fmt.Sprintf("there is no %s %q", e.What, e.Name)
	if e.Nearest != "" {
		text += fmt.Sprintf("; did you mean %q?", e.Nearest)
	}
	return text
}

func known(name, what string, names []string) error {
	if slices.Contains(names, name) {
		return nil
	}
	return &UnknownError{what, name, strict.Nearest(name, names)}
}

// running is one check on its way.
type running struct {
	Check

	needs []*running
	done  chan struct{} // closed when out is there
	out   Outcome
	root  string // of a skipped one: the check that it is skipped for
}

// Run runs the checks of the selection and waits for them: for what needs another only
// where that is in order. A check that was not chosen counts as in order.
func Run(ctx context.Context, all []Check, s Selection) (Report, error) {
	chosen, err := s.choose(all)
	if err != nil {
		return Report{}, err
	}
	if s.Timeout <= 0 {
		s.Timeout = defaultTimeout
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	runs := make([]*running, len(chosen))
	for i, c := range chosen {
		r := &running{Check: c, done: make(chan struct{})}
		for _, id := range c.Needs {
			for _, before := range runs[:i] {
				if before.ID == id && (before.Source == c.Source || before.Source == "") {
					r.needs = append(r.needs, before)
				}
			}
		}
		runs[i] = r
	}
	slots := make(chan struct{}, atOnce)
	var g errgroup.Group
	for _, r := range runs {
		g.Go(func() error { r.run(ctx, slots); return nil })
	}
	if err := g.Wait(); err != nil {
		return Report{}, err
	}
	report := Report{Checks: []Outcome{}, Seconds: time.Since(began).Seconds()}
	for _, r := range runs {
		report.Checks = append(report.Checks, r.out)
		report.Summary.count(r.out.Result)
	}
	return report, nil
}

func (r *running) run(ctx context.Context, slots chan struct{}) {
	defer close(r.done)
	for _, n := range r.needs {
		<-n.done // it ends in time, as this one does
		if n.out.Result.Red() || n.out.Result == Skipped {
			r.root = n.root
			if n.out.Result != Skipped {
				r.root = n.name()
			}
			r.out = r.outcome(Result{Kind: Skipped, Message: strings.TrimSuffix(r.root, " "+r.Source) + " comes first"})
			return
		}
	}
	select {
	case <-ctx.Done():
		r.late()
		return
	case slots <- struct{}{}:
	}
	defer func() { <-slots }()
	began := time.Now()
	result := r.bounded(ctx)
	r.out = r.outcome(result)
	r.out.Seconds = time.Since(began).Seconds()
}

// late is a check that never began.
func (r *running) late() {
	r.root = r.name()
	r.out = r.outcome(Result{Kind: Skipped, Message: "there was no time left: say --timeout longer, or choose by --section or --only"})
}

// bounded runs a check within its time. One that hangs all the same, as on a disk that
// answers nothing, is left behind.
func (r *running) bounded(ctx context.Context) Result {
	within := entry(r.ID).within()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var g errgroup.Group
	got := make(chan Result, 1)
	g.Go(func() error { got <- r.Run(ctx); return nil })
	select {
	case x := <-got:
		_ = g.Wait() // it is at its end, and has no error
		return x
	case <-ctx.Done():
	}
	over := time.NewTimer(grace)
	defer over.Stop()
	select {
	case x := <-got:
		return x
	case <-over.C:
		return Result{Kind: Error, Message: fmt.Sprintf("this check did not end within %s: what it looks at hangs", within)}
	}
}

func (r *running) name() string { return strings.TrimSpace(r.ID + " " + r.Source) }

func (r *running) outcome(x Result) Outcome {
	e := entry(r.ID)
	o := Outcome{ID: r.ID, Section: e.Section, Source: r.Source, Result: x.Kind, Message: x.Message, Details: x.Details, Err: x.Err, Repairs: x.Repairs}
	if x.Kind == Warning || x.Kind.Red() {
		o.Why, o.Fix, o.Doc = e.Why, e.Fix, e.Doc()
		if x.Why != "" {
			o.Why = x.Why
		}
		if x.Fix != "" {
			o.Fix = x.Fix
		}
	}
	return o
}
