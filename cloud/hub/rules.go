package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/cloud/product/runner"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/revision"
	"plantmesh/proto/subject"
)

// coverage is the product that knows which source was heard in which agent's log.
const coverage = "coverage"

// ruling is what models give gateways at an instant, and how it stands there.
type ruling struct {
	gateways []desk.GatewayRules // by agent
	machines map[string]desk.Standing
}

// rulesFrom is where a ruling is read. Safe for concurrent use.
type rulesFrom struct {
	reg      *registry.Registry
	store    *store.Store
	reported func(log string) *revision.Reported
}

// rulebook keeps a ruling as long as what was heard is kept: to make one, files of each
// gateway are read. Safe for concurrent use.
type rulebook struct {
	from rulesFrom

	mu    sync.Mutex // one looks, the others wait for what it finds
	of    *siteNow
	held  ruling
	until time.Time
}

// rule is the ruling of now; none where nothing can be read, as in tests of other things.
func (b *rulebook) rule(ctx context.Context, is *siteNow, heard product.Heard) (ruling, error) {
	if b == nil {
		return ruling{}, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	began := time.Now()
	if b.of == is && began.Before(b.until) {
		return b.held, nil
	}
	held, err := b.from.rule(ctx, is.site, slices.Concat(fileMachines(is.site), is.register.Machines), heard)
	if err != nil {
		return ruling{}, err
	}
	ended := time.Now()
	b.of, b.held, b.until = is, held, ended.Add(max(heardFor, 10*ended.Sub(began)))
	return held, nil
}

// rulebook reads what a hub that runs knows.
func (h *hub) rulebook() *rulebook {
	return &rulebook{from: rulesFrom{reg: h.reg, store: h.store, reported: func(log string) *revision.Reported {
		r, _ := h.fleet.configured(log)
		return r
	}}}
}

// edgeRules is what is known of one gateway on the way to a ruling.
type edgeRules struct {
	desk.GatewayRules

	log           string
	machines      []plant.Wired
	names         map[string]int // sources that have a signal of a name
	newest        []plant.Rule
	inForce       []plant.Rule
	reported      *revision.Reported
	state         revision.State
	ownGoesBefore bool
}

// rule makes a ruling: which machines are behind which gateway, what their models give
// them, and what of it is there.
func (f *rulesFrom) rule(ctx context.Context, site *product.Site, machines []plant.Machine, heard product.Heard) (out ruling, err error) {
	models, err := modelsOf(site)
	if err != nil {
		return out, err
	}
	all, behind, err := f.gateways(ctx, site.Name, heard)
	if err != nil {
		return out, err
	}
	for i := range machines {
		m := &machines[i]
		if g := all[behind[m.Source]]; g != nil && m.Model != "" {
			g.machines = append(g.machines, plant.Wired{Machine: *m, Wires: wiresOf(site, m, heard)})
			g.Machines = append(g.Machines, m.ID)
		}
	}
	notMade := site.NotMade(heard)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		g := all[name]
		g.Rules, g.Left = plant.Rules(g.machines, models, func(name string) bool { return g.names[name] > 1 })
		for _, n := range notMade {
			if slices.Contains(g.Machines, n.Equipment) {
				g.Left = append(g.Left, plant.Left{Machine: n.Equipment, Property: n.Property, Why: n.Why})
			}
		}
		if err := f.read(g); err != nil {
			return out, err
		}
	}
	out.machines = map[string]desk.Standing{}
	for i := range machines {
		m := &machines[i]
		known := slices.ContainsFunc(models, func(o plant.Model) bool { return o.Ref() == m.Model })
		out.machines[m.ID] = all[behind[m.Source]].standing(m, known)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		g := all[name]
		if g.Differs = g.differs(out.machines); len(g.Rules)+len(g.Left)+len(g.Differs)+len(g.inForce)+len(g.newest) > 0 {
			slices.Sort(g.Machines)
			out.gateways = append(out.gateways, g.GatewayRules)
		}
	}
	return out, nil
}

// modelsOf are the models of the site file and the register.
func modelsOf(site *product.Site) (out []plant.Model, err error) {
	b, err := site.WrittenModels()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("read the models of the site: %w", err)
	}
	return out, nil
}

// wiresOf are the signals that a machine has, as the products map them.
func wiresOf(site *product.Site, m *plant.Machine, heard product.Heard) (out []plant.Wire) {
	for _, sig := range heard[m.Source] {
		i, role := site.Signal(m.Source, sig.Name)
		if i < 0 || site.Equipment[i].ID != m.ID {
			continue
		}
		w := plant.Wire{Name: sig.Name, Type: modelType(sig.Type), Unit: sig.Unit}
		if role != product.RoleOther {
			w.Role = site.RoleName(&site.Equipment[i], sig.Name)
		}
		out = append(out, w)
	}
	return out
}

// gateways are the agents that are in, by name, and behind which of them each source was
// heard last.
func (f *rulesFrom) gateways(ctx context.Context, site string, heard product.Heard) (all map[string]*edgeRules, behind map[string]string, err error) {
	in, err := f.reg.Agents()
	if err != nil {
		return nil, nil, err
	}
	all, behind = map[string]*edgeRules{}, map[string]string{}
	for _, a := range in {
		if a.Site == site && a.Revoked == nil {
			all[a.Name] = &edgeRules{
				GatewayRules: desk.GatewayRules{Site: site, Agent: a.Name, Machines: []string{}, Rules: []plant.Rule{}, Left: []plant.Left{}, Differs: []string{}},
				log:          subject.AgentLog(site, a.Name), names: map[string]int{},
			}
		}
	}
	counts := func(log mesh.LogID) bool {
		of, name, ok := subject.ParseAgentLog(string(log))
		return ok && of == site && all[name] != nil
	}
	for source, signals := range heard {
		log, err := runner.Spokesman(ctx, f.store, coverage, source, counts)
		if err != nil {
			return nil, nil, err
		}
		if log == "" {
			continue
		}
		_, behind[source], _ = subject.ParseAgentLog(string(log)) // it counts
		for _, sig := range signals {
			all[behind[source]].names[sig.Name]++
		}
	}
	return all, behind, nil
}

// read finds which rules of models a gateway should have by its newest revision, and which
// it says it has.
func (f *rulesFrom) read(g *edgeRules) error {
	newest, err := f.reg.Newest(g.Site, g.Agent)
	if err != nil {
		return err
	}
	g.Newest, g.reported = newest.Ref, f.reported(g.log)
	g.state = revision.Sync(newest.Ref, g.reported)
	was, number, unread := plant.ReadText(newest.Files[plant.RulesFile])
	g.newest = was
	g.Sent = unread == nil && plant.SameRules(was, g.Rules)
	next := max(number, newest.Number) + 1
	if r := g.reported; r != nil {
		next = max(next, r.Number+1, r.Desired+1)
		g.ownGoesBefore = slices.Contains(r.Drift, plant.RulesFile)
	}
	if g.inForce, err = f.inForce(g, newest); err != nil {
		return err
	}
	if g.Sent {
		next = number
	}
	g.File = plant.Text(g.Rules, next)
	return nil
}

// inForce are the rules of models that a gateway says it has. A revision of before this hub
// was put back, and a file that can't be read, has none that are known.
func (f *rulesFrom) inForce(g *edgeRules, newest revision.Revision) ([]plant.Rule, error) {
	r := g.reported
	if r == nil || r.Number == 0 {
		return nil, nil
	}
	in := newest
	if r.Ref != newest.Ref {
		var err error
		if in, err = f.reg.Revision(g.Site, g.Agent, r.Number); err != nil && !errors.Is(err, registry.ErrNoRevision) {
			return nil, err
		}
	}
	if in.Ref != r.Ref {
		return nil, nil
	}
	rules, _, _ := plant.ReadText(in.Files[plant.RulesFile])
	return rules, nil
}

// ruleOf are the rules of one machine among several.
func ruleOf(rules []plant.Rule, id string) (out []plant.Rule) {
	for _, r := range rules {
		if r.Machine() == id {
			out = append(out, r)
		}
	}
	return out
}

// standing is how the rules of a machine's model stand. No gateway has been heard with its
// source where g is nil.
func (g *edgeRules) standing(m *plant.Machine, known bool) (s desk.Standing) {
	if g == nil {
		s.OK, s.Says = m.Model == "", "no model, and so no rules of one"
		if !s.OK {
			s.Says = "no gateway has said its source"
		}
		return s
	}
	s.Agent = g.Agent
	for _, l := range g.Left {
		if l.Machine == m.ID {
			s.Left = append(s.Left, l)
		}
	}
	want, have := ruleOf(g.Rules, m.ID), ruleOf(g.inForce, m.ID)
	same := plant.SameRules(want, have) && (len(want) == 0 || !g.ownGoesBefore)
	switch {
	case m.Model != "" && !known:
		s.Says = "there is no model " + m.Model
	case same && len(want) > 0:
		s.OK, s.Says = true, fmt.Sprintf("%d of model %s on %s", len(want), m.Model, g.Agent)
	case same && m.Model == "":
		s.OK, s.Says = true, "no model, and so no rules of one"
	case same:
		s.OK, s.Says = true, "model "+m.Model+" gives none to what is heard of it"
	case len(want) == 0:
		s.Says = g.Agent + " still has rules that no model gives"
	default:
		s.Says = fmt.Sprintf("rules of model %s not on %s yet%s", m.Model, g.Agent, g.why(m.ID, want))
	}
	return s
}

// why says what keeps rules of a machine from being in force that were sent.
func (g *edgeRules) why(id string, want []plant.Rule) string {
	switch {
	case !plant.SameRules(want, ruleOf(g.newest, id)):
		return ""
	case g.ownGoesBefore:
		return " (it has a " + plant.RulesFile + " of its own, which goes before)"
	case g.reported == nil:
		return fmt.Sprintf(" (%s has them, and it has said nothing since the hub began)", g.Newest)
	}
	return fmt.Sprintf(" (%s, which has them, is %s)", g.Newest, g.state)
}

// differs is what stands otherwise than models say, machines of one word in one line.
func (g *edgeRules) differs(standing map[string]desk.Standing) []string {
	of := map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(standing)) {
		if s := standing[id]; s.Agent == g.Agent && !s.OK {
			of[s.Says] = append(of[s.Says], id)
		}
	}
	for _, r := range g.inForce {
		id := r.Machine()
		says := g.Agent + " still has rules that no model gives"
		if s, is := standing[id]; (!is || s.Agent != g.Agent) && !slices.Contains(of[says], id) {
			of[says] = append(of[says], id)
		}
	}
	out := []string{}
	for _, says := range slices.Sorted(maps.Keys(of)) {
		ids := of[says]
		more := ""
		if n := len(ids); n > 4 {
			ids, more = ids[:4], fmt.Sprintf(" and %d more", n-4)
		}
		out = append(out, says+": "+strings.Join(ids, ", ")+more)
	}
	return out
}

// into puts a ruling where the register is looked at.
func (r ruling) into(l *desk.Look) {
	l.Gateways = append([]desk.GatewayRules{}, r.gateways...)
	for i := range l.Rows {
		row := &l.Rows[i]
		s, ok := r.machines[row.ID]
		if !ok {
			continue
		}
		row.Rules = &s
		if ready, is := row.Readiness.(product.Readiness); is {
			ready.Checks = append(slices.Clip(ready.Checks), product.Check{Check: "rules", OK: s.OK, Says: s.Says})
			row.Readiness = ready
		}
	}
}

// of are the rules of one agent; those of one that has none are empty.
func (r ruling) of(reg *registry.Registry, site, agent string) (g desk.GatewayRules, err error) {
	if i := slices.IndexFunc(r.gateways, func(g desk.GatewayRules) bool { return g.Site == site && g.Agent == agent }); i >= 0 {
		return r.gateways[i], nil
	}
	in, err := reg.Agents()
	if err != nil {
		return g, err
	}
	if !enrolledIn(in, site, agent) {
		return g, fmt.Errorf("%s at %s: %w", agent, site, registry.ErrUnknown)
	}
	newest, err := reg.Newest(site, agent)
	return desk.GatewayRules{Site: site, Agent: agent, Machines: []string{}, Rules: []plant.Rule{}, Left: []plant.Left{}, Differs: []string{}, Newest: newest.Ref, Sent: true}, err
}

// ModelRules implements desk.Shelf.
func (s shelf) ModelRules(ctx context.Context, site, agent string) (g desk.GatewayRules, err error) {
	heard, err := s.sites.ear.listen(ctx, s.store)
	if err != nil {
		return g, err
	}
	is := s.sites.current()
	all, err := s.sites.rules.from.rule(ctx, is.site, slices.Concat(fileMachines(is.site), is.register.Machines), heard)
	if err != nil {
		return g, err
	}
	return all.of(s.reg, site, agent)
}

// ModelRules are the rules that models give the machines behind a gateway, while a hub runs
// on the data folder or not.
func ModelRules(ctx context.Context, cfg Config, agent string, log *slog.Logger) (g desk.GatewayRules, err error) {
	s, err := store.OpenReading(ctx, filepath.Join(cfg.Data, databaseName), log)
	if err != nil {
		return g, fmt.Errorf("%w: %w", ErrData, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	l, reg, err := looked(ctx, cfg, s)
	if err != nil {
		return g, err
	}
	if g, err = (ruling{gateways: l.Gateways}).of(reg, l.Site, agent); err != nil {
		return g, fmt.Errorf("%w: %w", ErrConfigure, err)
	}
	return g, nil
}

// looked is what is registered, by what lies in the data folder.
func looked(ctx context.Context, cfg Config, s *store.Store) (l desk.Look, reg *registry.Registry, err error) {
	site, register, err := effectiveSite(ctx, cfg, s)
	if err != nil {
		return l, nil, err
	}
	heard, err := heardSignals(ctx, s)
	if err != nil {
		return l, nil, err
	}
	if l, err = lookAt(site, register, heard); err != nil {
		return l, nil, err
	}
	if reg, err = openRegistry(cfg); err != nil {
		return l, nil, err
	}
	said := map[string]*revision.Reported{}
	agents, _, _ := Fleet(cfg, time.Now())
	for i := range agents {
		said[subject.AgentLog(agents[i].Site, agents[i].Name)] = agents[i].Configuration
	}
	from := rulesFrom{reg: reg, store: s, reported: func(log string) *revision.Reported { return said[log] }}
	rules, err := from.rule(ctx, site, slices.Concat(l.Scene.File, register.Machines), heard)
	if err != nil {
		return l, nil, err
	}
	rules.into(&l)
	return l, reg, nil
}
