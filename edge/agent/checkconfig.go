package agent

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/check"
	"plantmesh/edge/host"
	"plantmesh/edge/source/sparkplug"
	"plantmesh/proto/answer"
	"plantmesh/proto/revision"
)

// Days of a token that are left.
const (
	tokenWarn = 14 * 24 * time.Hour
	tokenFail = 3 * 24 * time.Hour
)

func (c *Checkup) ofConfiguration() []check.Check {
	parsed := []string{"cfg-parse"}
	return []check.Check{
		{ID: "cfg-parse", Run: plain(c.cfgParse)},
		{ID: "cfg-sources", Needs: parsed, Run: plain(c.cfgSources)},
		{ID: "cfg-rules", Needs: parsed, Run: plain(c.cfgRules)},
		{ID: "cfg-rules-tests", Needs: []string{"cfg-parse", "cfg-rules"}, Run: plain(c.cfgRulesTests)},
		{ID: "cfg-duplicates", Needs: parsed, Run: plain(c.cfgDuplicates)},
		{ID: "cfg-proof", Needs: parsed, Run: plain(c.cfgProof)},
		{ID: "cfg-secrets", Needs: parsed, Run: plain(c.cfgSecrets)},
		{ID: "cfg-readonly", Needs: parsed, Run: plain(c.cfgReadonly)},
		{ID: "cfg-revision", Needs: parsed, Run: plain(c.cfgRevision)},
	}
}

// cfgParse looks at edge.yaml itself. That a gateway is not let in yet is no fault of it.
func (c *Checkup) cfgParse() check.Result {
	if c.fault != nil {
		r := faulty(check.Fatal, c.fault)
		if _, err := os.Stat(c.path); errors.Is(err, os.ErrNotExist) {
			r.Fix = "name the file by --config; or have one written: " + c.enroll()
		}
		return r
	}
	needed := []Part{Names, Data, Clock, Keeping, Page}
	if c.enrolled() {
		needed = append(needed, Sending)
	}
	if err := c.cfg.Need(needed...); err != nil {
		r := faulty(check.Fatal, err)
		if c.cfg.Agent == "" || c.cfg.Site == "" { // enrolling fills them in
			r.Fix = c.enroll()
		}
		return r
	}
	return check.Good("%s: agent %s at %s", c.path, c.cfg.Agent, c.cfg.Site)
}

func (c *Checkup) cfgSources() check.Result {
	if err := c.cfg.Need(Sources); err != nil {
		return faulty(check.Error, err)
	}
	if len(c.cfg.Sources) == 0 {
		r := check.Warn("add one: plantmesh-edge source add --config edge.yaml opc.tcp://host:4840, or mqtt://host:1883 with --topic 'plant/#'", "there are no sources")
		r.Why = "nothing is collected without one"
		return r
	}
	if off, err := filepath.Glob(filepath.Join(c.cfg.SourcesDir(), "*"+disabledSuffix)); err == nil && len(off) > 0 {
		return check.Good("%d sources, and %d that are disabled", len(c.cfg.Sources), len(off))
	}
	return check.Good("%d sources", len(c.cfg.Sources))
}

func (c *Checkup) cfgRules() check.Result {
	if err := c.cfg.Need(Rules); err != nil {
		return faulty(check.Error, err)
	}
	return check.Good("they can be read")
}

// signals are the names that a source's file says.
func (s *SourceFile) signals() (out []string) {
	if s.OPCUA != nil {
		for i := range s.OPCUA.Signals {
			out = append(out, s.OPCUA.Signals[i].Name)
		}
	}
	if s.MQTT != nil {
		for i := range s.MQTT.Signals {
			out = append(out, s.MQTT.Signals[i].Name)
		}
	}
	if s.Listener != nil {
		for i := range s.Listener.Signals {
			out = append(out, s.Listener.Signals[i].Name)
		}
	}
	return out
}

func (c *Checkup) cfgDuplicates() check.Result {
	by, twice := map[string]string{}, []string{}
	for i := range c.cfg.Sources {
		s := &c.cfg.Sources[i]
		for _, name := range s.signals() {
			if other, there := by[name]; there && other != s.ID() && !strings.ContainsAny(name, "*{") {
				twice = append(twice, fmt.Sprintf("%s by %s and %s", name, other, s.ID()))
			}
			by[name] = s.ID()
		}
	}
	if len(twice) > 0 {
		return check.Warn("", "%s", some(twice, "signals are read twice"))
	}
	return check.Good("each of %d names is of one source", len(by))
}

// some are the first of many things, and how many there are.
func some(all []string, what string) string {
	const most = 5
	text := fmt.Sprintf("%d %s: %s", len(all), what, strings.Join(all[:min(len(all), most)], ", "))
	if n := len(all) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

func (c *Checkup) cfgProof() check.Result {
	var out []string
	for i := range c.cfg.Sources {
		if w := c.cfg.Sources[i].Warning(); w != "" {
			out = append(out, w)
		}
	}
	if len(out) > 0 {
		return check.Warn("", "%s", strings.Join(out, "; "))
	}
	return check.Good("what is silent and what is dead can be told apart")
}

func (c *Checkup) cfgSecrets() check.Result {
	files := map[string]bool{}
	for i := range c.cfg.Sources {
		for _, s := range c.cfg.Sources[i].sections() {
			for at, path := range s.files {
				if *path != "" && !strings.Contains(at, "ca_file") && !strings.HasSuffix(at, "certificate") && !strings.HasSuffix(at, "cert_file") {
					files[*path] = true
				}
			}
		}
	}
	if path := c.cfg.Hub.ProxyPasswordFile; path != "" {
		files[path] = true
	}
	return c.private(slices.Sorted(maps.Keys(files)), "no source has a password or a key")
}

// private says whether others can read files.
func (c *Checkup) private(files []string, none string) check.Result {
	var open []string
	for _, path := range files {
		mode, err := host.Open(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return check.Warn("", "%s can't be looked at: %v", path, bare(err))
		case mode&0o007 != 0:
			open = append(open, path)
		}
	}
	switch {
	case len(open) > 0:
		r := check.Fail(answer.Command(append([]string{"chmod", "600"}, open...)...), "everybody on this machine can read %s", strings.Join(open, ", "))
		for _, path := range open {
			r.Repairs = append(r.Repairs, c.shut(path)...)
		}
		return r
	case len(files) == 0:
		return check.Good("%s", none)
	}
	return check.Good("%d files, none of them for everybody", len(files))
}

// shut takes the rights of others at a file or a folder away, where it lies in a folder of this
// gateway: a file elsewhere may be read by everybody for a reason. Its group keeps what it has:
// the service may read it by that.
func (c *Checkup) shut(path string) []check.Repair {
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return nil
	}
	path = filepath.Join(parent, filepath.Base(path))
	if !slices.ContainsFunc([]string{filepath.Dir(c.path), c.cfg.Data}, func(own string) bool {
		own, err := filepath.Abs(own)
		if err == nil {
			own, err = filepath.EvalSymlinks(own)
		}
		return err == nil && (path == own || strings.HasPrefix(path, strings.TrimSuffix(own, "/")+"/"))
	}) {
		return nil
	}
	return []check.Repair{{Does: answer.Command("chmod", "o=", path), Do: func() error { return host.Shut(path) }}}
}

func (c *Checkup) cfgReadonly() check.Result {
	said := c.cfg.writes()
	if len(said) == 0 {
		return check.Good("it writes nothing to any device")
	}
	return check.Good("%s; else nothing is written to any device", strings.Join(said, "; "))
}

// writes says what the agent says to devices, beside what it asks.
func (c *Config) writes() (out []string) {
	for i := range c.Sources {
		s := c.Sources[i].Sparkplug
		if s == nil {
			continue
		}
		switch s.Mode {
		case sparkplug.Active:
			out = append(out, s.ID+" asks nodes for their births (Node Control/Rebirth)")
		case sparkplug.Primary:
			out = append(out, s.ID+" asks nodes for their births, and publishes STATE as host "+s.HostID)
		case sparkplug.Passive:
		}
	}
	return out
}

// cfgRevision looks which configuration of the hub is in force.
func (c *Checkup) cfgRevision() check.Result {
	if c.cfg.Data == "" {
		return check.None("where the hub's configurations lie says data")
	}
	h, err := c.cfg.ConfigHistory(time.Now())
	if err != nil {
		return check.Warn("run this command as the user of the service: sudo -u plantmesh-edge ...", "which configuration of the hub is in force can't be seen: %v", bare(c.cfg.unread))
	}
	diff := answer.Command("plantmesh-edge", "config", "diff", "--config", c.path)
	switch {
	case h.Desired == 0 && h.Number == 0 && h.Hold == nil:
		return check.Good("the hub has none for this gateway: its own files count")
	case h.State == revision.Reverted, h.State == revision.Rejected:
		return check.Fail("mend it at the hub, and configure this gateway again; what it would change: "+diff, "revision %d of the hub is %s, and %s is in force: %s", h.Desired, h.State, h.Ref, h.Why)
	case h.State == revision.Drift:
		return check.Warn("see "+diff+"; take the file out of this gateway's folder and start the agent anew, or have the hub take it over", "%s", h.Why)
	case h.Hold != nil:
		return check.Warn(answer.Command("plantmesh-edge", "release", "--config", c.path), "no configuration of the hub comes into force: %s", h.Hold.Reason)
	case h.State == revision.Trial:
		return check.Warn("", "%s is being tried: it is kept or taken back within two minutes", h.Ref)
	case h.State == revision.Pending:
		return check.Warn(diff, "the hub wants revision %d, and %s is in force", h.Desired, h.Ref)
	}
	return check.Good("%s, as the hub wants", h.Ref)
}

func (c *Checkup) ofIdentity() []check.Check {
	parsed := []string{"cfg-parse"}
	return []check.Check{
		{ID: "id-enrolled", Needs: parsed, Run: plain(c.idEnrolled)},
		{ID: "id-key-perms", Needs: []string{"cfg-parse", "id-enrolled"}, Run: plain(c.idKeyPerms)},
		{ID: "id-cert-expiry", Needs: []string{"cfg-parse", "id-enrolled"}, Run: plain(c.idExpiry)},
	}
}

// enroll is the command by which a hub is asked to let this gateway in.
func (c *Checkup) enroll() string {
	hub := c.cfg.Hub.Enroll
	if hub == "" {
		hub = "https://hub.example.com"
	}
	return answer.Command("plantmesh-edge", "enroll", "--config", c.path, hub)
}

func (c *Checkup) idEnrolled() check.Result {
	r := check.Result{Kind: check.Error, Fix: c.enroll()}
	if !c.enrolled() {
		if r.Err = c.cfg.Need(Sending); r.Err == nil {
			r.Err = c.cfg.doc.Fault("$.hub", "hub has no address, key or token")
		}
		r.Message = "this gateway is not let in by a hub: " + r.Err.Error()
		return r
	}
	t, err := c.cfg.CheckToken(time.Now())
	if expired, ok := errors.AsType[*answer.Error](err); err != nil && (!ok || expired.Code != answer.Expired) {
		r.Err, r.Message = err, err.Error()
		return r
	}
	return check.Good("%s at %s, key %s", t.Agent, t.Site, filepath.Base(c.cfg.Hub.Key))
}

func (c *Checkup) idKeyPerms() check.Result {
	return c.private([]string{c.cfg.Hub.Key}, "") // the token proves nothing without it
}

func (c *Checkup) idExpiry() check.Result {
	now := time.Now()
	t, err := c.cfg.CheckToken(now)
	left := t.Expires.Sub(now)
	r := check.Result{Kind: check.OK, Fix: c.enroll(), Details: map[string]any{"token_expires": t.Expires, "left_seconds": left.Seconds()}}
	claims, broken := readToken(c.cfg.newest())
	switch {
	case t.Expires.IsZero():
		return check.Good("the hub's token has no end")
	case err != nil:
		r.Kind, r.Message = check.Error, fmt.Sprintf("the hub's token ended on %s, %s ago", t.Expires.Format(time.DateTime+" UTC"), rounded(-left))
		r.Why = "the hub takes nothing with it; everything is kept and sent later"
		if c.cfg.Hub.Enroll != "" {
			r.Fix = "start the agent: it asks " + c.cfg.Hub.Enroll + " for another by itself; if the hub does not give one: " + r.Fix
		}
	case broken == nil && left < min(tokenFail, t.Expires.Sub(time.Unix(claims.IssuedAt, 0))/4):
		r.Kind, r.Message = check.Error, fmt.Sprintf("the hub's token ends in %s and was not renewed", rounded(left))
	case broken == nil && left < min(tokenWarn, t.Expires.Sub(time.Unix(claims.IssuedAt, 0))/2):
		r.Kind, r.Message = check.Warning, fmt.Sprintf("the hub's token ends in %s and was not renewed", rounded(left))
		r.Fix = "start the agent, which renews it from a third of its life on, and see to the way to the hub, section cloud"
	default:
		r.Message = fmt.Sprintf("the hub's token is valid for %.0f days", left.Hours()/24)
	}
	return r
}
