package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"plantmesh/edge/check"
	"plantmesh/edge/page"
	"plantmesh/edge/source"
	"plantmesh/edge/status"
	"plantmesh/proto/answer"
)

// ErrPageOff is returned where edge.yaml says nothing of a page.
var ErrPageOff = errors.New("this gateway has no page")

const (
	// pageRate is how many values a second a browser is told.
	pageRate = 200
	// countEvery and countFor are how often counters are noted for the page's rates, and
	// for how long.
	countEvery = 4 * time.Second
	countFor   = time.Minute
	// mostReport bounds what a run of the checks may print.
	mostReport = 4 << 20
	// lateAfter is how old what waits may be before it is worth a look.
	lateAfter = 2 * time.Minute
)

// pager is the agent as the page shows it.
type pager struct {
	a *agent

	mu     sync.Mutex // protects what follows
	counts []counts   // the oldest first
}

// counts are counters at one moment.
type counts struct {
	at                 time.Time
	samples            map[string]uint64 // by source
	left, marked, kept uint64            // left out by sources, marked by rules, of those quarantined
}

// since are the counters as they were up to a minute ago; ok is false where nobody looked then.
func (p *pager) since(now counts) (was counts, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts = slices.DeleteFunc(p.counts, func(c counts) bool { return now.at.Sub(c.at) > countFor })
	if n := len(p.counts); n == 0 || now.at.Sub(p.counts[n-1].at) >= countEvery {
		p.counts = append(p.counts, now)
	}
	return p.counts[0], now.at.Sub(p.counts[0].at) >= time.Second
}

// perSecond is a rate in words.
func perSecond(now, was uint64, over time.Duration) string {
	if now < was || over <= 0 {
		return "–"
	}
	rate := float64(now-was) / over.Seconds()
	if rate >= 10 || rate == 0 {
		return fmt.Sprintf("%.0f values/s", rate)
	}
	return fmt.Sprintf("%.1f values/s", rate)
}

// Look implements page.Gateway.
func (p *pager) Look() page.Look {
	s := p.a.snapshot()
	rules, _ := p.a.judge.Found()
	now := counts{at: time.Now(), samples: map[string]uint64{}}
	for i := range s.Sources {
		now.samples[s.Sources[i].Source] = s.Sources[i].Samples
		for _, v := range s.Sources[i].Voids {
			now.left += v.Count
		}
	}
	for i := range rules {
		now.marked += rules[i].Count
		if rules[i].Does == "quarantine" {
			now.kept += rules[i].Count
		}
	}
	was, known := p.since(now)
	l := page.Look{
		Gateway: s.Agent, Site: s.Site, Version: answer.Build().Version, Up: rounded(time.Since(p.a.began)), Config: p.a.cfg.path, Health: page.OK,
		Buffer: bufferLook(&s.Buffer, &s.Disk),
	}
	over := now.at.Sub(was.at)
	if !known {
		over = 0
	}
	sources := page.Box{Name: "Sources", Health: page.OK, Figure: perSecond(total(now.samples), total(was.samples), over)}
	reading := 0
	for i := range s.Sources {
		one := p.sourceLook(&s.Sources[i], perSecond(now.samples[s.Sources[i].Source], was.samples[s.Sources[i].Source], over))
		if one.Health == page.OK {
			reading++
		} else {
			l.Says = append(l.Says, one.Name+": "+one.State)
		}
		sources.Health = sources.Health.Worse(one.Health)
		l.Sources = append(l.Sources, one)
	}
	sources.Lines = []string{fmt.Sprintf("%d of %d in order", reading, len(s.Sources))}
	if len(s.Sources) == 0 {
		sources.Health, l.Says = page.Warn, append(l.Says, "there are no sources: nothing is collected")
	}
	l.Boxes = append([]page.Box{sources}, p.steps(&s, now, was)...)
	for _, b := range l.Boxes {
		l.Health = l.Health.Worse(b.Health)
		if b.Health != page.OK && b.Name != "Sources" {
			l.Says = append(l.Says, b.Name+": "+strings.Join(append([]string{b.Figure}, b.Lines...), "; "))
		}
	}
	l.Buffer.Aside, l.Buffer.Rules = p.asideRows(), ruleRows(rules)
	return l
}

func total(m map[string]uint64) (n uint64) {
	for _, x := range m {
		n += x
	}
	return n
}

// rising is the health of a counter that should stand still.
func rising(now, was uint64) page.Health {
	if now > was {
		return page.Warn
	}
	return page.OK
}

// steps are the boxes behind the sources.
func (p *pager) steps(s *status.Snapshot, now, was counts) []page.Box {
	f := p.a.forward.Status()
	mapped := page.Box{Name: "Map", Health: rising(now.left, was.left), Figure: fmt.Sprintf("%d left out", now.left), Lines: []string{"since the agent began; Sources says why"}}
	judged := page.Box{Name: "Quality", Health: rising(now.kept, was.kept), Figure: fmt.Sprintf("%d marked", now.marked), Lines: []string{fmt.Sprintf("of them %d quarantined", now.kept)}}
	kept := page.Box{Name: "Buffer", Health: bufferHealth(&s.Buffer), Figure: fmt.Sprintf("%.0f of %.0f MiB", float64(s.Buffer.Bytes)/(1<<20), float64(s.Buffer.MaxBytes)/(1<<20))}
	if s.Buffer.AutonomyHours != nil {
		kept.Lines = append(kept.Lines, fmt.Sprintf("keeps everything for %.0f h without the hub", *s.Buffer.AutonomyHours))
	}
	if s.Buffer.Damages > 0 {
		kept.Lines = append(kept.Lines, fmt.Sprintf("%d records or segments can't be read", s.Buffer.Damages))
	}
	sent := page.Box{Name: "Send", Health: page.OK, Figure: fmt.Sprintf("%d records wait", s.Buffer.Pending), Lines: []string{fmt.Sprintf("%d messages on the way", f.Flights)}}
	if at, err := time.Parse(time.RFC3339, s.Buffer.OldestPending); err == nil && s.Buffer.Pending > 0 {
		lag := p.a.now().Time().Sub(at)
		sent.Lines = append(sent.Lines, "the oldest are at most "+rounded(max(0, lag))+" old")
		if lag > lateAfter && s.Hub.Connected && f.Backlog {
			sent.Health = page.Warn
		}
	}
	if f.Waits != "" {
		sent.Health, sent.Lines = page.Warn, append(sent.Lines, f.Waits)
	}
	hub := page.Box{Name: "Hub", Health: page.OK, Figure: "connected", Lines: []string{s.Hub.URL}}
	if s.Hub.Proxy != "" {
		hub.Lines = append(hub.Lines, "through the proxy "+s.Hub.Proxy)
	}
	if !s.Hub.Connected {
		hub.Health, hub.Figure = page.Bad, "not connected"
		hub.Lines = append(hub.Lines, "everything is kept meanwhile")
	}
	if s.Hub.LastError != "" && s.Hub.LastError != f.Waits {
		hub.Health = hub.Health.Worse(page.Warn)
		hub.Lines = append(hub.Lines, s.Hub.LastError)
	}
	return []page.Box{mapped, judged, kept, sent, hub}
}

// bufferHealth says what of the buffer needs a look. That it is full of what the hub has
// is how it should be.
func bufferHealth(b *status.Buffer) page.Health {
	switch {
	case b.Damages > 0 || len(b.StateLost) > 0 || len(b.Losses) > 0:
		return page.Bad
	case b.AutonomyHours != nil && *b.AutonomyHours < 1:
		return page.Bad
	case b.AutonomyHours != nil && *b.AutonomyHours < 72:
		return page.Warn
	}
	return page.OK
}

func bufferLook(b *status.Buffer, d *status.Disk) page.Buffer {
	out := page.Buffer{Health: bufferHealth(b)}
	if b.MaxBytes > 0 {
		out.Percent = 100 * float64(b.Bytes) / float64(b.MaxBytes)
	}
	row := func(label, format string, args ...any) {
		out.Rows = append(out.Rows, page.Row{Label: label, Value: fmt.Sprintf(format, args...)})
	}
	row("On disk", "%.1f of %.0f MiB in %d files", float64(b.Bytes)/(1<<20), float64(b.MaxBytes)/(1<<20), b.Segments)
	row("Waits for the hub", "%d records", b.Pending)
	if b.Pending > 0 && b.OldestPending != "" {
		row("The oldest of them", "from %s or later", b.OldestPending)
	}
	if b.AutonomyHours != nil {
		row("Without the hub", "everything is kept for %.1f h, at %.1f MiB an hour; 72 h are wanted", *b.AutonomyHours, b.BytesPerHour/(1<<20))
	} else {
		row("Without the hub", "too early to say for how long")
	}
	if d.Since != "" {
		row("Disk", "a commit takes %.1f ms, the slowest took %.1f ms; %.0f values/s; %.2f GB a day written", d.CommitMS, d.SlowestMS, d.ValuesPerSec, d.WrittenPerDay/1e9)
	}
	for _, l := range b.Losses {
		of := l.Source
		if of == "" {
			of = "sources that nobody knows"
		}
		out.Rows = append(out.Rows, page.Row{Label: "Lost", Value: fmt.Sprintf("%d values of %s since %s, the last at %s, cause %s; gone from here 24 h after", l.Count, of, l.Since, l.Last, l.Cause), Health: page.Bad})
	}
	if b.Damages > 0 {
		out.Rows = append(out.Rows, page.Row{Label: "Damaged", Value: fmt.Sprintf("%d segments or records could not be read: what the hub lacks of them is named in gaps. Is the disk failing?", b.Damages), Health: page.Bad})
	}
	for _, s := range b.StateLost {
		out.Rows = append(out.Rows, page.Row{Label: "Begun anew", Value: s + ": its state was damaged on the disk", Health: page.Bad})
	}
	return out
}

// sourceLook is a source as the page shows it.
func (p *pager) sourceLook(s *status.Source, rate string) page.Source {
	out := page.Source{Name: s.Source, Health: page.OK, State: s.State, Rate: rate, Known: s.ProvenTo}
	p.a.mu.Lock()
	for i := range p.a.cfg.Sources {
		if f := &p.a.cfg.Sources[i]; f.ID() == s.Source {
			out.Protocol, out.Endpoint = strings.ReplaceAll(f.sections()[0].key, "_", " "), f.endpoint()
		}
	}
	p.a.mu.Unlock()
	row := func(label, value string, h page.Health) {
		if value != "" {
			out.Rows = append(out.Rows, page.Row{Label: label, Value: value, Health: h})
		}
	}
	switch {
	case s.State == source.StateRunning && !strings.HasPrefix(s.Says, "not connected"):
	case s.State == source.StateStarting || s.State == source.StateRunning:
		out.Health = page.Warn
	default:
		out.Health = page.Bad
	}
	switch {
	case strings.HasPrefix(s.Says, "not connected"):
		out.Health, out.State = page.Bad, "not connected"
	case strings.HasPrefix(s.Says, "connected, but") && out.Health == page.OK: // its own word for it
		out.Health, out.State = page.Warn, s.Says
	}
	row("Says", s.Says, "")
	row("Values", fmt.Sprintf("%d since the agent began, now %s", s.Samples, rate), "")
	row("Known to", s.ProvenTo, "")
	row("Last stored", s.LastCommit, "")
	if s.Restarts > 0 {
		row("Begun anew", fmt.Sprintf("%d times", s.Restarts), "")
	}
	row("Error", s.LastError, out.Health)
	if s.Aside != nil {
		row("Set aside", "since "+s.Aside.Since+", tried again at "+s.Aside.Next, page.Bad)
		out.Command = s.Aside.Resume
	} else if out.Health != page.OK {
		out.Command = answer.Command("plantmesh-edge", "check", "--config", p.a.cfg.path, "--section", "sources")
	}
	var causes []string
	for cause := range s.Voids {
		causes = append(causes, cause)
	}
	slices.Sort(causes)
	for _, cause := range causes {
		v := s.Voids[cause]
		said := fmt.Sprintf("%d times; the latest: %s", v.Voids, v.Latest)
		if v.Count > 0 {
			said = fmt.Sprintf("%d values, ", v.Count) + said
		}
		row("No data: "+cause, said, "")
	}
	for _, t := range s.Troubles {
		if strings.HasSuffix(s.Says, t.Says) { // it is so now, and told
			continue
		}
		row("Trouble", fmt.Sprintf("%s, %d times, the last at %s", t.Says, t.Times, t.Last), "")
	}
	return out
}

func (p *pager) asideRows() (out []page.Row) {
	all, err := p.a.buffer.Quarantined()
	if err != nil {
		return []page.Row{{Label: "can't be listed", Value: err.Error(), Health: page.Bad}}
	}
	for i := range all {
		r := asideOf(&all[i])
		out = append(out, page.Row{Label: r.ID, Value: fmt.Sprintf("%s, %d samples, %s: %s %s", r.Source, r.Count, r.When, r.Cause, r.Why)})
	}
	return out
}

func ruleRows(rules []status.RuleFound) (out []page.Row) {
	for i := range rules {
		r := &rules[i]
		out = append(out, page.Row{Label: r.Rule, Value: fmt.Sprintf("%s in %s: %d samples since %s; the last: %s", r.Does, r.Signal, r.Count, r.First, r.Last.Line())})
	}
	return out
}

// Check implements page.Gateway. The checks speak with devices and servers, so they run in a
// process of their own, as at the gateway's shell.
func (p *pager) Check(ctx context.Context) (c page.Checks, err error) {
	cmd := exec.CommandContext(ctx, p.a.self, "check", "--config", p.a.cfg.path, "--json") //nolint:gosec // this program itself
	cmd.WaitDelay = time.Second
	var out capped
	cmd.Stdout = &out
	_ = cmd.Run() // findings are no failure; what it printed says the rest
	var got struct {
		Data  *check.Report `json:"data"`
		Error *answer.Error `json:"error"`
	}
	if err := json.Unmarshal(out.b.Bytes(), &got); err != nil {
		return c, fmt.Errorf("the checks gave no answer: %w", err)
	}
	if got.Data == nil {
		if got.Error != nil {
			return c, errors.New(got.Error.Message)
		}
		return c, errors.New("the checks gave no answer")
	}
	return checksOf(got.Data), nil
}

// capped takes what is printed up to a bound.
type capped struct{ b bytes.Buffer }

func (w *capped) Write(p []byte) (int, error) {
	if room := mostReport - w.b.Len(); room > 0 {
		w.b.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

func checksOf(r *check.Report) page.Checks {
	out := page.Checks{Ran: time.Now(), Summary: r.Line()}
	for _, name := range check.Sections() {
		sec := page.Section{Title: strings.ToUpper(name[:1]) + name[1:]}
		for _, o := range r.Checks {
			if o.Section != name || o.Result == check.Ignored {
				continue
			}
			h := map[check.Kind]page.Health{check.OK: page.OK, check.Warning: page.Warn, check.Error: page.Bad, check.Fatal: page.Bad}[o.Result]
			if h == "" {
				h = page.Unknown
			}
			sec.Checks = append(sec.Checks, page.Checked{ID: o.ID, Source: o.Source, Message: o.Message, Why: o.Why, Fix: o.Fix, Health: h, Kind: string(o.Result)})
		}
		if len(sec.Checks) > 0 {
			out.Sections = append(out.Sections, sec)
		}
	}
	return out
}

// Listen implements page.Gateway.
func (p *pager) Listen(ctx context.Context, pattern string, tell func([]page.Value) error) error {
	return p.a.taps.Tap(ctx, status.TapQuery{Pattern: pattern, Rate: pageRate}, func(lines []status.Tapped) error {
		out := make([]page.Value, 0, len(lines))
		for _, l := range lines {
			v := page.Value{LeftOut: l.LeftOut, Others: l.Others}
			if s := l.Sample; s != nil {
				value := s.Value
				if s.Unit != "" {
					value += " " + s.Unit
				}
				v = page.Value{Signal: s.Signal, Source: s.Source, Value: value, Quality: s.Quality, Status: s.Status, Time: s.Time, Notes: s.Notes}
			}
			out = append(out, v)
		}
		return tell(out)
	})
}

// showPage serves the page, where edge.yaml asks for one. An agent without it collects all the same.
func (a *agent) showPage(ctx context.Context) error {
	if a.page == nil {
		return nil
	}
	if err := a.page.Serve(ctx); err != nil && ctx.Err() == nil {
		a.log.Warn("no page", "err", err)
	}
	return nil
}

// inviter lets browsers in, for the status socket.
type inviter struct{ a *agent }

// Invite implements status.Inviter.
func (i inviter) Invite() (status.Invitation, error) {
	if i.a.page == nil {
		return status.Invitation{}, fmt.Errorf("%w: set page: {listen: 127.0.0.1:8088} in edge.yaml and start the agent anew", ErrPageOff)
	}
	link, until := i.a.page.Invite()
	return status.Invitation{URL: link, Until: stamp(until)}, nil
}

// Invite has the running agent let one browser in.
func Invite(ctx context.Context, cfg Config) (status.Invitation, error) {
	_, err := Status(ctx, cfg)
	if err != nil && cfg.Page.Listen != "" {
		return status.Invitation{}, err
	}
	if err == nil { // its environment may say more than the file
		var got status.Invitation
		if got, err = status.Invite(ctx, cfg.Status); err == nil {
			return got, nil
		}
	}
	if cfg.Page.Listen == "" {
		return status.Invitation{}, fmt.Errorf("%w: write page: {listen: 127.0.0.1:8088} into %s and start the agent anew", ErrPageOff, cfg.path)
	}
	return status.Invitation{}, fmt.Errorf("%w yet: %s names one, so start the agent anew (%w)", ErrPageOff, cfg.path, err)
}
