package desk

import (
	"fmt"
	"maps"
	"net/http"

	"plantmesh/cloud/registry/plant"
	"plantmesh/proto/revision"
)

// GatewayRules are the rules that models give the machines behind a gateway, and how they
// stand there.
type GatewayRules struct {
	Site     string       `json:"site"`
	Agent    string       `json:"agent"`
	Machines []string     `json:"machines"` // that have a model and are behind it
	Rules    []plant.Rule `json:"rules"`
	Left     []plant.Left `json:"left_out"` // what models say and a machine can't have
	// File is what the gateway is to have as plant.RulesFile; empty: no such file.
	File string `json:"file"`
	// Differs says what of it is not in force there, and what is there that no model gives:
	// a line each.
	Differs []string `json:"differs"`
	// Newest is the revision that the gateway should have.
	Newest revision.Ref `json:"newest"`
	Sent   bool         `json:"sent"` // the newest revision has these rules
}

// Into is a configuration with these rules in it, and else as it is.
func (g *GatewayRules) Into(files revision.Files) revision.Files {
	out := maps.Clone(files)
	if out == nil {
		out = revision.Files{}
	}
	delete(out, plant.RulesFile)
	if g.File != "" {
		out[plant.RulesFile] = g.File
	}
	return out
}

// Refs are the models that give them, each once.
func (g *GatewayRules) Refs() (out []string) {
	seen := map[string]bool{}
	for i := range g.Rules {
		if ref := g.Rules[i].Model; !seen[ref] {
			seen[ref], out = true, append(out, ref)
		}
	}
	return out
}

// Standing is how the rules of one machine's model stand at its gateway.
type Standing struct {
	Agent string       `json:"agent,omitempty"` // empty: none has been heard with its source
	OK    bool         `json:"ok"`
	Says  string       `json:"says"`
	Left  []plant.Left `json:"left_out,omitempty"`
}

// modelRules shows what models give the machines of a gateway.
func (d *Desk) modelRules(w http.ResponseWriter, r *http.Request) {
	site := r.PathValue("site")
	if err := d.cfg.May(r, Read, site); err != nil {
		problem(w, http.StatusForbidden, err.Error())
		return
	}
	g, err := d.cfg.Shelf.ModelRules(r.Context(), site, r.PathValue("agent"))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	answer(w, g)
}

// rules shows what models give the machines of all gateways.
func (d *Machines) rules(w http.ResponseWriter, r *http.Request) {
	l, ok := d.look(w, r)
	if !ok {
		return
	}
	if err := d.May(r, Read, l.Site); err != nil {
		problem(w, http.StatusForbidden, err.Error())
		return
	}
	answer(w, map[string]any{"version": l.Scene.Register.Version, "data": append([]GatewayRules{}, l.Gateways...)})
}

// ErrNoRules is returned where models give a gateway no rule, and it has none of them.
var ErrNoRules = fmt.Errorf("%w: no model gives the machines behind this gateway a rule, and it has none of one", revision.ErrRevision)

// withRules puts the rules of models into files; nil: into those of the newest revision.
// after is that revision: where another one comes meanwhile, nothing is done.
func (d *Desk) withRules(r *http.Request, files *revision.Files) (out revision.Files, note string, after uint64, err error) {
	site, agent := r.PathValue("site"), r.PathValue("agent")
	g, err := d.cfg.Shelf.ModelRules(r.Context(), site, agent)
	if err != nil {
		return nil, "", 0, err
	}
	if files == nil {
		c, err := d.cfg.Shelf.Configuration(site, agent, 0)
		if err != nil {
			return nil, "", 0, err
		}
		now := revision.Files{}
		if c.Desired != nil {
			now = c.Desired.Files
		}
		if files = &now; g.File == "" && now[plant.RulesFile] == "" {
			return nil, "", 0, ErrNoRules
		}
	}
	return g.Into(*files), g.Note(), g.Newest.Number, nil
}

// Note says what a revision with these rules is for.
func (g *GatewayRules) Note() string {
	refs := g.Refs()
	switch n := len(refs); n {
	case 0:
		return "no rules of models any more"
	case 1:
		return "rules of model " + refs[0]
	default:
		return fmt.Sprintf("rules of %d models, as %s", n, refs[0])
	}
}
