package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"plantmesh/edge/check"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/mqtt/mapping"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/edge/source/opcua/trust"
	"plantmesh/edge/source/sparkplug"
	"plantmesh/edge/status"
	"plantmesh/proto/answer"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// Bounds of a look at a device.
const (
	heardFor   = 1500 * time.Millisecond // long enough for a broker to refuse a subscription
	mostSought = 20_000                  // nodes among which a missing one is sought
	soughtFor  = 8 * time.Second
	troubleOld = 15 * time.Minute // what was said before counts no longer
)

// looking is what is found out of an OPC UA server.
func (c *Checkup) looking(ctx context.Context, cfg opcua.Config) *finding {
	if !cfg.Security.Insecure && c.cfg.certified() == nil && c.another() == "" {
		cfg.Application = c.cfg.application()
	}
	return &finding{
		survey: once(func() (opcua.Survey, error) { return opcua.Look(ctx, cfg, c.log) }),
		trials: once(func() ([]opcua.Trial, error) {
			now, err := plantNow(c.cfg.PlantClock)
			if err != nil {
				return nil, err
			}
			return opcua.Try(ctx, cfg, now, c.log)
		}),
	}
}

// ofSource are the checks of one source, as its protocol has them.
func (c *Checkup) ofSource(s *SourceFile, l *finding) (out []check.Check) {
	add := func(id string, run func(context.Context) check.Result, needs ...string) {
		out = append(out, check.Check{ID: id, Source: s.ID(), Needs: append([]string{"cfg-parse"}, needs...), Run: run})
	}
	switch {
	case s.OPCUA != nil:
		add("src-tcp", func(ctx context.Context) check.Result {
			return srcTCP(ctx, place(s.OPCUA.Endpoint, "4840"), "OPC UA server")
		})
		add("src-endpoints", func(ctx context.Context) check.Result { return srcEndpoints(ctx, s.OPCUA, l) }, "src-tcp")
		add("src-security", plain(func() check.Result { return srcSecurity(s.OPCUA, l) }), "src-endpoints")
		add("src-trust", plain(func() check.Result { return c.srcTrust(s.OPCUA, l) }), "src-security")
		add("src-auth", plain(func() check.Result { return srcAuth(s.OPCUA, l) }), "src-security", "src-trust")
		add("src-nodes", func(ctx context.Context) check.Result { return c.srcNodes(ctx, s.OPCUA, l) }, "src-auth")
		add("src-limits", plain(func() check.Result { return srcLimits(l) }), "src-auth")
	case s.MQTT != nil:
		add("src-tcp", func(ctx context.Context) check.Result { return srcTCP(ctx, place(s.MQTT.URL, ""), "broker") })
		add("src-mqtt", func(ctx context.Context) check.Result { return c.srcMQTT(ctx, s, hearing(s)) }, "src-tcp")
	case s.Sparkplug != nil:
		add("src-tcp", func(ctx context.Context) check.Result { return srcTCP(ctx, place(s.Sparkplug.URL, ""), "broker") })
		add("src-mqtt", func(ctx context.Context) check.Result { return c.srcMQTT(ctx, s, hearing(s)) }, "src-tcp")
		add("src-sparkplug", plain(func() check.Result { return c.srcSparkplug(s) }), "src-mqtt")
	}
	add("src-freshness", plain(func() check.Result { return c.srcFreshness(s) }), "src-tcp")
	return out
}

func srcTCP(ctx context.Context, at, what string) check.Result {
	r, refused := reach(ctx, at)
	if refused {
		r.Fix = "start or switch on the " + what + " at the machine, or correct the port in the source's file"
	}
	return r
}

// place is host and port of a device's URL.
func place(device, port string) string {
	u, err := url.Parse(device)
	if err != nil {
		return device
	}
	if port == "" {
		port = map[string]string{"mqtts": "8883"}[u.Scheme]
	}
	if port == "" {
		port = "1883"
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// srcEndpoints asks a server what it offers. How it calls itself doesn't matter to this
// agent, which goes on calling it as the file does; to others it may.
func srcEndpoints(ctx context.Context, cfg *opcua.Config, l *finding) check.Result {
	s, err := l.survey()
	if err != nil {
		return refusedVisit(err)
	}
	u, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return check.Fail("", "%v", err)
	}
	called := ""
	text := fmt.Sprintf("%s (%s), %d endpoints", browse.Printable(s.Name), browse.Printable(s.URI), len(s.Offers))
	for _, o := range s.Offers {
		as, err := url.Parse(o.URL)
		if err != nil || as.Hostname() == "" || strings.EqualFold(as.Hostname(), u.Hostname()) {
			continue
		}
		unknown := ""
		if _, err := net.DefaultResolver.LookupHost(ctx, as.Hostname()); err != nil {
			unknown = ", a name that this gateway can't resolve"
		}
		called = fmt.Sprintf("; it calls itself %.100s%s: the agent calls %s all the same, as the file says", browse.Printable(o.URL), unknown, u.Host)
		break
	}
	return check.Good("%s", text+called)
}

// refusedVisit is a server that can't be visited: what is wrong and what helps stand in
// one text.
func refusedVisit(err error) check.Result {
	fix := ""
	text := err.Error()
	if v, ok := errors.AsType[*opcua.VisitError](err); ok {
		text = v.Text
	}
	say, helps, cut := strings.Cut(text, ": ")
	if cut && !strings.Contains(say, "://") {
		if helps, _, _ = strings.Cut(helps, " ("); len(helps) > 0 {
			fix = helps
		}
	}
	return check.Fail(fix, "%s", text)
}

func srcSecurity(cfg *opcua.Config, l *finding) check.Result {
	s, err := l.survey()
	switch {
	case err != nil:
		return refusedVisit(err)
	case s.NoOffer != nil:
		text := s.NoOffer.Error()
		say, fix, _ := strings.Cut(text, ". ")
		return check.Fail(fix, "%s", say)
	case cfg.Security.Insecure:
		r := check.Warn("take security.insecure: true out of the source's file, where the server has Basic256Sha256 with SignAndEncrypt: plantmesh-edge browse --endpoints shows it", "neither signed nor encrypted, as security.insecure: true asks for")
		r.Why = "everyone on that network may read and change what is sent"
		return r
	}
	for _, o := range s.Offers {
		if o.Taken {
			return check.Good("%s with %s", o.Policy, o.Mode)
		}
	}
	return check.Good("the server offers what is asked for")
}

// srcTrust looks at the server's certificate first, then whether the server takes this
// gateway's.
func (c *Checkup) srcTrust(cfg *opcua.Config, l *finding) check.Result {
	if cfg.Security.Insecure {
		return check.None("the connection has no certificates, as security.insecure: true asks for")
	}
	if err := c.cfg.certified(); err != nil {
		return faulty(check.Error, err)
	}
	if who := c.another(); who != "" {
		return check.Result{Kind: check.Skipped, Message: "as root this would make certificates that " + who + " can't read; run " + c.asOwner(who)}
	}
	s, err := l.survey()
	switch {
	case err != nil:
		return refusedVisit(err)
	case s.Refused != nil:
		r := check.Fail(s.Refused.Fix, "%s", s.Refused.Say)
		if s.Refused.Reason == trust.WrongHost || s.Refused.Reason == trust.WrongURI {
			r.Why = "who shows the certificate of another server may be another server"
		}
		r.Details = map[string]any{"reason": s.Refused.Reason}
		return r
	case s.Trusted != nil && !*s.Trusted:
		return check.Fail("", "%s", strings.Join(s.Obstacles, "; "))
	case s.NoLogin != nil: // then nobody tries to log in
		return c.lasting(cfg, "this gateway trusts the server")
	}
	_, err = l.trials()
	if v, ok := errors.AsType[*opcua.VisitError](err); ok && v.Kind == opcua.OfOwnCertificate {
		return refusedVisit(err)
	}
	return c.lasting(cfg, "this gateway trusts the server, and the server this gateway")
}

// lasting is good, where no certificate of a connection ends soon.
func (c *Checkup) lasting(cfg *opcua.Config, good string) check.Result {
	var one Config
	one.path, one.Agent, one.Site, one.Data = c.cfg.path, c.cfg.Agent, c.cfg.Site, c.cfg.Data
	one.Sources = []SourceFile{{OPCUA: cfg}}
	all := one.endings(time.Now())
	if len(all) == 0 {
		return check.Good("%s", good)
	}
	var said []string
	for i := range all {
		said = append(said, endingWords(&all[i]))
	}
	r := check.Warn(all[0].Fix, "%s; %s", good, strings.Join(said, "; "))
	r.Why = "behind its end the connection is refused"
	r.Details = map[string]any{"endings": all}
	return r
}

func srcAuth(cfg *opcua.Config, l *finding) check.Result {
	if s, err := l.survey(); err == nil && s.NoLogin != nil && !cfg.Security.Insecure {
		return refusedVisit(s.NoLogin)
	}
	if _, err := l.trials(); err != nil {
		return refusedVisit(err)
	}
	who := "without a login"
	switch {
	case cfg.Security.User != "":
		who = "as " + cfg.Security.User
	case cfg.Security.UserCertificate != "":
		who = "by the user's certificate"
	}
	return check.Good("the server takes this gateway %s", who)
}

// srcNodes tells nodes that are not there, with the nearest of those that are, and those
// that are of another type.
func (c *Checkup) srcNodes(ctx context.Context, cfg *opcua.Config, l *finding) check.Result {
	tried, err := l.trials()
	if err != nil {
		return refusedVisit(err)
	}
	var missing, other, bad []string
	var lost []opcua.Trial
	for _, t := range tried {
		switch {
		case t.Node == "":
			lost = append(lost, t)
		case t.Why != "" && c.discreet:
			other = append(other, t.Signal.Name)
		case t.Why != "":
			other = append(other, fmt.Sprintf("%s (%s)", t.Signal.Name, t.Why))
		case t.Sample.Status.IsBad():
			bad = append(bad, fmt.Sprintf("%s (%s)", t.Signal.Name, opcua.StatusName(t.Sample.Status)))
		}
	}
	if len(lost) > 0 {
		near := c.nearest(ctx, cfg, lost)
		for i, t := range lost {
			text := fmt.Sprintf("%s at %s", t.Signal.Name, t.Asked)
			if near[i] != "" {
				text += "; closest is " + near[i]
			}
			missing = append(missing, text)
		}
	}
	r := check.Good("%d of %d nodes are there, of the types that the file says", len(tried), len(tried))
	switch {
	case len(missing) > 0:
		r = check.Fail("correct the node in the source's file, or take the signal out; was the PLC's program loaded anew? What the server has shows: "+answer.Command("plantmesh-edge", "browse", cfg.ID, "--config", c.path), "%s", some(missing, fmt.Sprintf("of %d nodes are missing", len(tried))))
	case len(other) > 0:
		r = check.Fail("correct the type or unit in the source's file: "+answer.Command("plantmesh-edge", "source", "test", "FILE", "--config", c.path), "%s", some(other, fmt.Sprintf("of %d signals are not what the file says", len(tried))))
	case len(bad) > 0:
		r = check.Warn("look at the machine: its own programs show the same", "%s", some(bad, fmt.Sprintf("of %d nodes have no good value now", len(tried))))
	}
	return r
}

// nearest names for each missing node the most alike that the server has.
func (c *Checkup) nearest(ctx context.Context, cfg *opcua.Config, lost []opcua.Trial) []string {
	out := make([]string, len(lost))
	called := *cfg
	if !cfg.Security.Insecure {
		called.Application = c.cfg.application()
	}
	var ids []string
	err := opcua.Visit(ctx, called, c.log, func(ctx context.Context, s opcua.Caller) error {
		_, err := browse.Walk(ctx, s, browse.Config{MaxNodes: mostSought, Within: soughtFor}, func(n *browse.Node) error {
			if n.Class == "variable" {
				ids = append(ids, n.ID)
			}
			return nil
		})
		return err
	})
	if err != nil && len(ids) == 0 {
		return out // a missing node is told without advice then
	}
	for i := range lost[:min(len(lost), 5)] {
		out[i] = browse.Printable(strict.Nearest(lost[i].Asked, ids))
	}
	return out
}

func srcLimits(l *finding) check.Result {
	tried, err := l.trials()
	if err != nil {
		return refusedVisit(err)
	}
	var slow []string
	for _, t := range tried {
		if t.Each > 0 && t.Seldom > t.Each {
			slow = append(slow, fmt.Sprintf("%s (asked each %s, looked at each %s at most)", t.Signal.Name, t.Each, t.Seldom))
		}
	}
	if len(slow) > 0 {
		return check.Warn("", "%s", some(slow, "signals are looked at more seldom than asked for"))
	}
	return check.Good("the server looks at %d nodes as often as is asked for", len(tried))
}

// hearing listens at a source's broker for a moment, under a name of its own.
func hearing(s *SourceFile) func(context.Context) error {
	now := func() mesh.Nanos { return mesh.NanosOf(time.Now()) }
	stay := link.Stay{Messages: 1, Bytes: 1 << 20, Within: heardFor}
	if s.Sparkplug != nil {
		return func(ctx context.Context) error {
			_, err := sparkplug.Visit(ctx, s.Sparkplug, stay, now)
			return err
		}
	}
	return func(ctx context.Context) error {
		m, err := mapping.New(&s.MQTT.Mapping)
		if err != nil {
			return err
		}
		_, err = link.Visit(ctx, &s.MQTT.Config, m.Filters(), stay, now)
		return err
	}
}

// srcMQTT looks first at what the running agent had to say: one that another client
// throws out is connected again most of the time.
func (c *Checkup) srcMQTT(ctx context.Context, s *SourceFile, hear func(context.Context) error) check.Result {
	if src, ok := c.said(s.ID()); ok {
		for _, t := range src.Troubles {
			if at, err := time.Parse(time.RFC3339, t.Last); err == nil && time.Since(at) < troubleOld && strings.Contains(t.Says, link.ErrTaken.Error()) {
				r := check.Fail("", "another client uses client id %q: it has thrown this agent out %d times since %s, last at %s", s.clientID(), t.Times, t.First, t.Last)
				r.Why = "a broker lets one of two clients with the same id in, and what the other acknowledges does not come here"
				r.Fix = fmt.Sprintf("find the other client at the broker, or write client_id: %s-2 into %s: what the broker has kept under the old one is lost then", s.clientID(), s.File)
				return r
			}
		}
	}
	if err := hear(ctx); err != nil {
		r := check.Fail("", "%v", err)
		if errors.Is(err, link.ErrRefused) {
			r.Fix = "check username and password_file in " + s.File + ", and what the broker lets this user subscribe to (its ACL)"
		}
		return r
	}
	return check.Good("the broker takes the login and the subscription")
}

// clientID is the name under which a source's broker knows this agent.
func (s *SourceFile) clientID() string {
	if s.MQTT != nil {
		return s.MQTT.ClientID
	}
	if s.Sparkplug != nil {
		return s.Sparkplug.ClientID
	}
	return ""
}

// said is what the running agent says of a source.
func (c *Checkup) said(id string) (status.Source, bool) {
	s, err := c.running()
	if err != nil {
		return status.Source{}, false
	}
	for _, src := range s.Sources {
		if src.Source == id {
			return src, true
		}
	}
	return status.Source{}, false
}

func (c *Checkup) srcSparkplug(s *SourceFile) check.Result {
	src, ok := c.said(s.ID())
	switch {
	case !ok:
		return check.None("no agent answers that has heard births of this source")
	case strings.HasPrefix(src.Says, "connected") && (strings.Contains(src.Says, "names are not known") || strings.Contains(src.Says, " dead")):
		return check.Warn("", "%s", src.Says)
	}
	return check.Good("%s", src.Says)
}

// srcFreshness is what the running agent says. A source that can't be read at all has its
// own check above: here only what comes counts.
func (c *Checkup) srcFreshness(s *SourceFile) check.Result {
	src, ok := c.said(s.ID())
	switch {
	case !ok:
		return check.None("no agent answers that reads this source")
	case src.Aside != nil:
		return check.Fail(src.Aside.Resume, "set aside since %s: %s", src.Aside.Since, src.Aside.Reason)
	case src.State == "held back" || src.State == "quarantined":
		return check.Warn("see section buffer, and: plantmesh-edge status", "%s since %s: %s", src.State, src.Since, src.LastError)
	case src.LastCommit == "":
		return check.Warn("", "%s since %s, and no value has come since the agent began", src.State, src.Since)
	}
	at, err := time.Parse(time.RFC3339, src.LastCommit)
	if err == nil && time.Since(at) > time.Hour {
		return check.Warn("", "no value has come since %s", src.LastCommit)
	}
	proven := src.ProvenTo
	if proven == "" {
		proven = "nothing yet"
	}
	return check.Good("the last values came at %s; proven to %s", src.LastCommit, proven)
}
