package porthttp

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"plantmesh/cloud/port"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// entry is a product in the list.
type entry struct {
	ID          string   `json:"id"`
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Domain      string   `json:"domain,omitempty"`
	Version     string   `json:"version"`
	Windows     []string `json:"windows,omitempty"`
	Rows        string   `json:"rows"`
	Contract    string   `json:"contract"`
	Status      string   `json:"status"`
}

func (s *server) products(w http.ResponseWriter, r *http.Request) error {
	out := make([]entry, 0, len(s.deps.Catalogue))
	for _, p := range s.deps.Catalogue {
		at := "/api/v1/products/" + p.ID
		out = append(out, entry{p.ID, p.Title, p.Description, p.Domain, p.Version, p.Windows, at + "/rows", at + "/contract", at + "/status"})
	}
	return s.json(w, r, map[string]any{"data": out})
}

// find is the product the address names.
func (s *server) find(r *http.Request) (Product, error) {
	id := r.PathValue("id")
	var ids []string
	for _, p := range s.deps.Catalogue {
		if p.ID == id {
			return p, nil
		}
		ids = append(ids, p.ID)
	}
	return Product{}, &problem{
		Status: http.StatusNotFound, Slug: "product", Param: "id",
		Detail: fmt.Sprintf("there is no product %q", id), Nearest: nearest(id, ids), Allowed: ids,
	}
}

func (s *server) product(w http.ResponseWriter, r *http.Request) error {
	p, err := s.find(r)
	if err != nil {
		return err
	}
	return s.document(w, r, p.ID+".odps.yaml", p.ODPS)
}

func (s *server) contract(w http.ResponseWriter, r *http.Request) error {
	p, err := s.find(r)
	if err != nil {
		return err
	}
	return s.document(w, r, p.ID+".odcs.yaml", p.ODCS)
}

// document answers with a YAML file as it is, or as JSON where that is asked
// for first.
func (s *server) document(w http.ResponseWriter, r *http.Request, name string, doc []byte) error {
	w.Header().Set("Vary", "Accept")
	accept := r.Header.Get("Accept")
	if strings.Contains(accept, "yaml") && !strings.HasPrefix(accept, "application/json") {
		w.Header().Set("Content-Type", "application/yaml")
		s.write(r, w, doc)
		return nil
	}
	var v any
	if _, err := strict.Parse(name, doc, &v); err != nil {
		return fmt.Errorf("read a product's document: %w", err)
	}
	return s.json(w, r, v)
}

// state is where a product stands.
type state struct {
	ID         string  `json:"id"`
	KnownFrom  *string `json:"known_from"` // first instant anything is known of; null: nothing yet
	Progress   *string `json:"progress"`   // everything is known through here, but of sources that are silent
	Watermark  *string `json:"watermark"`  // and complete through here
	Place      string  `json:"place"`      // in the hub's log
	PlantNow   string  `json:"plant_now"`
	LagSeconds float64 `json:"lag_seconds"` // plant time between progress and now
	CatchingUp bool    `json:"catching_up"` // further behind than the chain's own delays explain
	Speed      float64 `json:"plant_speed"` // of the plant clock; 0: it stands
	Version    string  `json:"contract_version"`
	// Sources are those of the site, each with how far it is known.
	Sources []sourceState `json:"sources"`

	through mesh.Nanos // Progress
}

func (s *server) status(w http.ResponseWriter, r *http.Request) error {
	p, err := s.find(r)
	if err != nil {
		return err
	}
	st, err := s.stateOf(r.Context(), p)
	if err != nil {
		return err
	}
	return s.json(w, r, st)
}

// Delays of the chain that are no lag to speak of: disorder and commit windows
// of plant time, and a few of the machine's seconds at the plant's speed.
const (
	lagOfPlant   = 60 * time.Second
	lagOfMachine = 20 * time.Second
)

func (s *server) stateOf(ctx context.Context, p Product) (state, error) {
	progress, watermark, place, err := s.progress(ctx, p)
	if err != nil {
		return state{}, err
	}
	st := state{ID: p.ID, Watermark: stamp(watermark), Place: place.String(), Version: p.Version}
	if place.IsZero() {
		st.Place = ""
	}
	from, err := s.known.of(ctx, s)
	if err != nil {
		return state{}, err
	}
	st.KnownFrom = stamp(from)
	now, speed := s.deps.PlantNow(), s.speed()
	st.Sources, st.through, err = s.nearest(ctx, p.ID, progress, func(t mesh.Nanos) bool { return lagging(now, t, speed) })
	if err != nil {
		return state{}, err
	}
	return s.aged(st), nil
}

// aged is a state as it looks now: nothing came since, and time goes on.
func (s *server) aged(st state) state {
	now, speed := s.deps.PlantNow(), s.speed()
	st.PlantNow, st.Speed = now.Time().Format(port.Stamp), speed
	st.Progress, st.LagSeconds, st.CatchingUp = stamp(st.through), 0, true
	if st.through != 0 {
		st.LagSeconds, st.CatchingUp = max(0, now.Sub(st.through)).Seconds(), lagging(now, st.through, speed)
	}
	return st
}

// lagging reports whether an instant is further behind than the chain explains.
func lagging(now, t mesh.Nanos, speed float64) bool {
	return now.Sub(t) > lagOfPlant+time.Duration(speed*float64(lagOfMachine))
}

// nearest takes a product's progress from the sources that are heard: one that
// is silent says nothing of the others. Where all are silent, it stays; and it never
// is beyond rows that are still to be made.
func (s *server) nearest(ctx context.Context, product string, progress mesh.Nanos, lagging func(mesh.Nanos) bool) ([]sourceState, mesh.Nanos, error) {
	sources, through, err := s.sources(ctx, product, lagging)
	if err != nil {
		return nil, 0, err
	}
	if through != 0 {
		progress = through
	}
	// Asked last: a step that comes between is bounded by what it left out itself.
	progress, err = s.standing(ctx, product, progress)
	return sources, progress, err
}

// standing is progress, or as much of it as rows are made of.
func (s *server) standing(ctx context.Context, product string, progress mesh.Nanos) (mesh.Nanos, error) {
	if s.deps.Stands == nil {
		return progress, nil
	}
	stands, err := s.deps.Stands(ctx, product)
	if err != nil {
		return 0, fmt.Errorf("read where %s stands: %w", product, err)
	}
	return min(progress, max(0, stands)), nil
}

// stamp is an instant in JSON; nil where there is none.
func stamp(n mesh.Nanos) *string {
	if n == 0 {
		return nil
	}
	t := n.Time().Format(port.Stamp)
	return &t
}

// knownFrom remembers the first instant anything is known of: the least start
// of an interval of equipment-state. Once every machine has one it can only
// move when older data is repaired in, which the next start of the hub sees.
type knownFrom struct {
	mu   sync.Mutex
	at   mesh.Nanos
	done bool
}

func (k *knownFrom) of(ctx context.Context, s *server) (mesh.Nanos, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done {
		return k.at, nil
	}
	k.done = true
	for _, l := range s.deps.Site().Lines {
		for _, m := range l.Machines {
			rows, _, err := s.reader("equipment-state").Rows(ctx, mesh.RowQuery{Product: "equipment-state", Entities: []string{m.ID}, Limit: 1})
			if err != nil {
				k.done = false
				return 0, fmt.Errorf("read the first row of %s: %w", m.ID, err)
			}
			if len(rows) == 0 {
				k.done = false
				continue
			}
			if k.at == 0 || rows[0].From < k.at {
				k.at = rows[0].From
			}
		}
	}
	return k.at, nil
}

func (s *server) machines(w http.ResponseWriter, r *http.Request) error {
	out := struct {
		SiteView
		Plans
	}{SiteView: s.deps.Site()}
	if s.deps.Plans != nil {
		out.Plans = s.deps.Plans()
	}
	return s.json(w, r, out)
}

func (s *server) agents(w http.ResponseWriter, r *http.Request) error {
	agents, err := s.fleet(r.Context())
	if err != nil {
		return err
	}
	return s.json(w, r, map[string]any{"data": agents})
}

// fleet is what the hub knows of its gateways.
func (s *server) fleet(ctx context.Context) ([]Agent, error) {
	agents := []Agent{}
	if s.deps.Agents == nil {
		return agents, nil
	}
	got, err := s.deps.Agents(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the agents: %w", err)
	}
	return append(agents, got...), nil
}

func (s *server) agent(w http.ResponseWriter, r *http.Request) error {
	agents, err := s.fleet(r.Context())
	if err != nil {
		return err
	}
	site, name := r.PathValue("site"), r.PathValue("agent")
	for _, a := range agents {
		if a.Site == site && a.Name == name {
			return s.json(w, r, a)
		}
	}
	return &problem{Status: http.StatusNotFound, Slug: "agent", Detail: "no agent " + name + " is enrolled at " + site}
}
