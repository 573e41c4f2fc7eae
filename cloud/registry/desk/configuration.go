package desk

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"plantmesh/cloud/registry"
	"plantmesh/proto/revision"
)

// Permissions that the root is asked for: to configure agents, and to change their rules alone.
const (
	Configure      = "agents.configure"
	ConfigureRules = "agents.configure.rules"
)

// configurationPath is where an agent's configuration is.
const configurationPath = "/api/v1/agents/{site}/{agent}/configuration"

// rulesPath is where the rules are that models give an agent's machines.
const rulesPath = "/api/v1/agents/{site}/{agent}/rules"

// maxConfiguration bounds a call that configures an agent. The guard before the desk may
// take less.
const maxConfiguration = 8 * revision.MaxBytes

// Configuration is how an agent is to be configured, and how it says it is.
type Configuration struct {
	Site  string `json:"site"`
	Agent string `json:"agent"`
	// Status is how the two stand: in_sync, pending, trial, reverted, rejected, held or
	// drift; empty: it has no revision.
	Status  revision.State     `json:"status"`
	Desired *revision.Revision `json:"desired"` // or the one that was asked for; null: none
	// Reported is what the agent last said; null: nothing since the hub began.
	Reported   *revision.Reported  `json:"reported"`
	ReportedAt string              `json:"reported_at,omitempty"` // RFC 3339
	Revisions  []revision.Revision `json:"revisions"`             // those that are kept, the newest first, without files
}

// Shelf is where configurations are. Safe for concurrent use; what it made is recorded, on
// the disk, and given to who asks when it returns.
type Shelf interface {
	// Configuration gives an agent's with the newest revision, or the one of a number above 0.
	Configuration(site, agent string, number uint64) (Configuration, error)
	Configure(w registry.Wanted, by registry.Actor) (revision.Revision, error)
	// ModelRules are those that models give the machines behind an agent.
	ModelRules(ctx context.Context, site, agent string) (GatewayRules, error)
}

// ErrBeyondRules is returned where somebody who may change rules alone would change more.
var ErrBeyondRules = errors.New("you may change rules alone, what lies in rules.d")

// configuration shows one. What its files say see only those who may change it: sources
// name addresses and users of machines.
func (d *Desk) configuration(w http.ResponseWriter, r *http.Request) {
	site := r.PathValue("site")
	if err := d.cfg.May(r, Read, site); err != nil {
		problem(w, http.StatusForbidden, err.Error())
		return
	}
	var number uint64
	if text := r.URL.Query().Get("revision"); text != "" {
		var err error
		if number, err = strconv.ParseUint(text, 10, 64); err != nil || number == 0 {
			problem(w, http.StatusBadRequest, "revision is a number, as 41")
			return
		}
	}
	c, err := d.cfg.Shelf.Configuration(site, r.PathValue("agent"), number)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	if c.Desired != nil && d.cfg.May(r, Configure, site) != nil {
		without := *c.Desired
		if without.Files = nil; d.cfg.May(r, ConfigureRules, site) == nil {
			without.Files = part(c.Desired.Files, true)
		}
		c.Desired = &without
	}
	answer(w, c)
}

// wish is what somebody wants of an agent's configuration.
type wish struct {
	Files    *revision.Files `json:"files"`
	RevertTo uint64          `json:"revert_to"`
	// Rules are all of rules.d; the rest stays as the newest revision has it.
	Rules *revision.Files `json:"rules"`
	// Models has the rules of models put into the files, or into those of the newest revision.
	Models bool    `json:"rules_from_models"`
	Note   string  `json:"note"`
	After  *uint64 `json:"after"` // the newest as who calls saw it: refused where it is another by now
}

// one says whether a wish is for one thing.
func (q *wish) one() bool {
	return (q.Files != nil || q.Rules != nil || q.Models) != (q.RevertTo != 0) && (q.Files == nil || q.Rules == nil)
}

// wanted is the revision that a wish is for.
func (d *Desk) wanted(r *http.Request, q *wish) (w registry.Wanted, err error) {
	w = registry.Wanted{Site: r.PathValue("site"), Agent: r.PathValue("agent"), Note: clean(q.Note, revision.MaxText), After: q.After}
	if q.Rules != nil {
		if q.Files, err = d.besides(w.Site, w.Agent, *q.Rules, &w); err != nil {
			return w, err
		}
	}
	switch {
	case q.Models:
		var note string
		var after uint64
		if w.Files, note, after, err = d.withRules(r, q.Files); err != nil {
			return w, err
		}
		if w.Note = cmp.Or(w.Note, note); w.After == nil {
			w.After = &after
		}
	case q.Files != nil:
		w.Files = *q.Files
	default:
		old, err := d.cfg.Shelf.Configuration(w.Site, w.Agent, q.RevertTo)
		if err != nil {
			return w, err
		}
		w.Files = old.Desired.Files
	}
	return w, nil
}

// configure makes the next revision: of files, with the rules of models, or with the files
// of an older one.
func (d *Desk) configure(w http.ResponseWriter, r *http.Request) {
	site := r.PathValue("site")
	var q wish
	if !own(r) {
		problem(w, http.StatusForbidden, "this came from a page of elsewhere")
		return
	}
	lacks := d.cfg.May(r, Configure, site)
	if lacks != nil && d.cfg.May(r, ConfigureRules, site) != nil {
		problem(w, http.StatusForbidden, lacks.Error())
		return
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxConfiguration))
	dec.DisallowUnknownFields()
	err := dec.Decode(&q)
	if _, end := dec.Token(); err == nil && !errors.Is(end, io.EOF) {
		err = errors.New("more than one object")
	}
	if err == nil && !q.one() {
		err = errors.New(`either "files", with contents by name as {"sources.d/press.yaml": "..."}, or "rules", with those of rules.d alone; with or without them "rules_from_models", true; or "revert_to", with the number of a revision`)
	}
	if err != nil {
		status := http.StatusBadRequest
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			status = http.StatusRequestEntityTooLarge
		}
		problem(w, status, fmt.Sprintf("the body is one JSON object: %v", err))
		return
	}
	want, err := d.wanted(r, &q)
	if err == nil && lacks != nil {
		err = d.rulesAlone(&want)
	}
	if err != nil {
		d.fail(w, r, err)
		return
	}
	made, err := d.cfg.Shelf.Configure(want, d.cfg.Who(r))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	made.Files = nil
	w.Header().Set("Content-Location", r.URL.Path+"?revision="+strconv.FormatUint(made.Number, 10))
	answer(w, made)
}

// part are the files of rules.d, or those that aren't.
func part(files revision.Files, rules bool) revision.Files {
	out := revision.Files{}
	for name, text := range files {
		if strings.HasPrefix(name, revision.RulesFolder+"/") == rules {
			out[name] = text
		}
	}
	return out
}

// newest is the newest revision of an agent; an empty one: there is none.
func (d *Desk) newest(site, agent string) (revision.Revision, error) {
	c, err := d.cfg.Shelf.Configuration(site, agent, 0)
	if err != nil || c.Desired == nil {
		return revision.Revision{}, err
	}
	return *c.Desired, nil
}

// besides are rules, beside what else the newest revision has; w is then of what is behind
// that one.
func (d *Desk) besides(site, agent string, rules revision.Files, w *registry.Wanted) (*revision.Files, error) {
	if other := part(rules, false); len(other) > 0 {
		return nil, fmt.Errorf(`%w: "rules" takes files of %s alone, not %s`, revision.ErrRevision, revision.RulesFolder, strings.Join(other.Names(), ", "))
	}
	newest, err := d.newest(site, agent)
	if err != nil {
		return nil, err
	}
	out := part(newest.Files, false)
	maps.Copy(out, rules)
	if w.After == nil {
		w.After = &newest.Number
	}
	return &out, nil
}

// rulesAlone refuses what differs from the newest revision beyond the rules. Where another
// one comes meanwhile nothing is done.
func (d *Desk) rulesAlone(w *registry.Wanted) error {
	newest, err := d.newest(w.Site, w.Agent)
	if err != nil {
		return err
	}
	was, is := part(newest.Files, false), part(w.Files, false)
	var beyond []string
	for _, name := range was.Names() {
		if after, has := is[name]; !has {
			beyond = append(beyond, name+" removed")
		} else if after != was[name] {
			beyond = append(beyond, name+" changed")
		}
	}
	for _, name := range is.Names() {
		if _, had := was[name]; !had {
			beyond = append(beyond, name+" added")
		}
	}
	if len(beyond) > 0 {
		return fmt.Errorf(`%w: this would have %s; "rules" takes those alone, and somebody who may configure agents changes the rest`, ErrBeyondRules, strings.Join(beyond, ", "))
	}
	if w.After == nil {
		w.After = &newest.Number
	}
	if *w.After != newest.Number {
		return registry.ErrMoved
	}
	return nil
}
