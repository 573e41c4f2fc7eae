package porthttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"plantmesh/cloud/port"
	"plantmesh/proto/mesh"
)

// The live feed. Output logs are read once for all readers: whoever wakes
// first pumps what is new into a ring of frames, the others find it there. A
// reader that falls behind the ring, or takes no bytes for writeWait, is
// dropped: it comes back and asks for the rows it shows anew.
//
// Where a product stands is told behind the rows it speaks of: it is read before
// them, and kept back while more of them wait than go into one frame.
const (
	ringFrames = 256
	ringBytes  = 8 << 20
	pumpRows   = 2_000                  // of one product in one frame
	pumpEvery  = 250 * time.Millisecond // frames are not made more often than that
	writeWait  = 5 * time.Second
	stateEvery = time.Second
)

// frame is one event of the feed, ready to be sent.
type frame []byte

// feed turns output logs into frames. Safe for concurrent use.
type feed struct {
	products []Product
	out      Outputs
	end      func(ctx context.Context, product string) (mesh.Position, error) // or nil

	mu     sync.Mutex // protects the fields below
	tails  map[string]mesh.Position
	stands map[string]state // where the products stood when the tails were at the ends
	behind bool             // more rows wait
	ring   []frame
	first  uint64 // number of ring[0]
	bytes  int    // in ring
	pumped time.Time
	open   int   // readers
	site   int64 // version of the site that readers have seen
}

func newFeed(deps Deps) *feed {
	f := &feed{out: deps.Out, end: deps.End, tails: map[string]mesh.Position{}, stands: map[string]state{}}
	for _, p := range deps.Catalogue {
		if !p.View {
			f.products = append(f.products, p)
		}
	}
	return f
}

// join counts a reader in and tells where the feed stands. The first reader
// sets the tails to the ends of the logs: what came before is in the rows.
func (f *feed) join(ctx context.Context, most int) (next uint64, ok bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open >= most {
		return 0, false, nil
	}
	if f.open == 0 {
		for _, p := range f.products {
			if err := f.skipLocked(ctx, p.ID); err != nil {
				return 0, false, err
			}
		}
	}
	f.open++
	return f.first + uint64(len(f.ring)), true, nil
}

// skipLocked moves a tail to the end of its log.
func (f *feed) skipLocked(ctx context.Context, product string) error {
	if f.end != nil {
		end, err := f.end(ctx, product)
		if err != nil {
			return fmt.Errorf("find the end of %s: %w", product, err)
		}
		f.tails[product] = end
		return nil
	}
	for begun := false; ; {
		rows, err := f.out.Out(ctx, product, f.tails[product], pumpRows)
		switch {
		case errors.Is(err, mesh.ErrGone) && !begun:
			f.tails[product], begun = mesh.Position{}, true
		case err != nil:
			return fmt.Errorf("find the end of %s: %w", product, err)
		case len(rows) == 0:
			return nil
		default:
			f.tails[product] = rows[len(rows)-1].At
		}
	}
}

func (f *feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open--
}

func (f *feed) readers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// news is what a reader has not seen yet.
type news struct {
	frames []frame
	stands map[string]state // behind the frames; never changed
	behind bool             // there is more to pump
}

// after gives what is new from frame number next on; ok is false where some of
// the frames have left the ring.
func (f *feed) after(next uint64) (n news, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if next < f.first {
		return news{}, false
	}
	n.frames = append(n.frames, f.ring[min(next-f.first, uint64(len(f.ring))):]...)
	n.stands, n.behind = f.stands, f.behind
	return n, true
}

// pump reads what is new, at most once per pumpEvery.
func (f *feed) pump(ctx context.Context, s *server) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.pumped) < pumpEvery {
		return nil
	}
	f.pumped = time.Now()
	stands := make(map[string]state, len(s.deps.Catalogue))
	for _, p := range s.deps.Catalogue {
		st, err := s.stateOf(ctx, p)
		if err != nil {
			return err
		}
		stands[p.ID] = st
	}
	if v := s.deps.Site().Version; v != f.site { // who looked before knows other machines
		if f.site = v; len(f.stands) > 0 {
			f.pushLocked(event("resync", []byte(`{}`)))
		}
	}
	f.behind = false
	for _, p := range f.products {
		all, err := f.readLocked(ctx, p, s.zone())
		if err != nil {
			return err
		}
		if was, ok := f.stands[p.ID]; !all && ok {
			f.behind, stands[p.ID] = true, s.aged(was)
		}
		// Among the rows may be those of a fold that goes on.
		st := stands[p.ID]
		if st.through, err = s.standing(ctx, p.ID, st.through); err != nil {
			return err
		}
		stands[p.ID] = s.aged(st)
	}
	f.stands = stands
	return nil
}

// readLocked makes a frame of what is new of a product; all is false where there
// may be more.
func (f *feed) readLocked(ctx context.Context, p Product, zone *time.Location) (all bool, err error) {
	rows, err := f.out.Out(ctx, p.ID, f.tails[p.ID], pumpRows)
	if errors.Is(err, mesh.ErrGone) {
		// The log was pruned past the tail, or the hub went back to a
		// backup: readers must ask for their rows anew.
		if err = f.skipLocked(ctx, p.ID); err == nil {
			f.pushLocked(event("resync", []byte(`{}`)))
			return true, nil
		}
	}
	if err != nil {
		return false, fmt.Errorf("read the output of %s: %w", p.ID, err)
	}
	if len(rows) == 0 {
		return true, nil
	}
	f.tails[p.ID] = rows[len(rows)-1].At
	body, err := frameOf(p, rows, zone)
	if err != nil { // nobody gets these rows from here: all must ask for theirs
		f.pushLocked(event("resync", []byte(`{}`)))
		return false, err
	}
	f.pushLocked(event("rows", body))
	return len(rows) < pumpRows, nil
}

func (f *feed) pushLocked(e frame) {
	f.ring = append(f.ring, e)
	f.bytes += len(e)
	for len(f.ring) > 1 && (len(f.ring) > ringFrames || f.bytes > ringBytes) {
		f.bytes -= len(f.ring[0])
		f.ring[0] = nil
		f.ring = f.ring[1:]
		f.first++
	}
}

// frameOf is {"product":id,"rows":[...]}: the last revision of each row.
func frameOf(p Product, rows []mesh.Row, zone *time.Location) ([]byte, error) {
	enc := port.NewEncoder(p.Columns, p.Version, zone)
	last := make(map[[2]string]int, len(rows))
	for i, r := range rows {
		last[[2]string{r.Entity, r.Key}] = i
	}
	b := []byte(`{"product":"` + p.ID + `","rows":[`)
	n := 0
	for i, r := range rows {
		if last[[2]string{r.Entity, r.Key}] != i {
			continue
		}
		row, err := enc.JSON(r)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			b = append(b, ',')
		}
		n++
		b = append(b, row...)
	}
	return append(b, ']', '}'), nil
}

// event is one server-sent event. JSON has no line breaks of its own.
func event(name string, data []byte) frame {
	b := make([]byte, 0, len(name)+len(data)+20)
	b = append(b, "event: "+name+"\ndata: "...)
	return append(append(b, data...), '\n', '\n')
}

// live is the feed of one reader: where all products stand at once and every
// second, rows as they change, and a comment now and then to prove life.
func (s *server) live(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	next, ok, err := s.feed.join(ctx, s.cfg.MaxLive)
	if err != nil {
		return err
	}
	if !ok {
		w.Header().Set("Retry-After", "10")
		return &problem{
			Status: http.StatusServiceUnavailable, Slug: "live",
			Detail: fmt.Sprintf("%d live feeds are open, more are not served: close one", s.cfg.MaxLive),
		}
	}
	defer s.feed.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	c := &client{server: s, w: w, ctl: http.NewResponseController(w), next: next}
	if err := c.run(ctx, r); err != nil && ctx.Err() == nil {
		s.log.InfoContext(ctx, "drop a live feed", "err", err)
	}
	return nil
}

// client is one reader of the feed; one goroutine uses it.
type client struct {
	*server

	w    http.ResponseWriter
	ctl  *http.ResponseController
	next uint64
	told string    // the last state sent
	beat time.Time // of the last bytes sent
}

// errBehind ends a feed whose reader could not keep up.
var errBehind = errors.New("the reader fell behind the feed")

func (c *client) run(ctx context.Context, r *http.Request) error {
	if r.Method == http.MethodHead {
		return nil
	}
	if err := c.send([]byte("retry: 2000\n\n")); err != nil {
		return err
	}
	tick := time.NewTicker(stateEvery)
	defer tick.Stop()
	for {
		changed := c.deps.Changed()
		behind, err := c.turn(ctx)
		if err != nil {
			return err
		}
		if !behind {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				continue
			case <-changed:
			}
		}
		// Gather the commits of a moment; many small frames help nobody.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pumpEvery):
		}
	}
}

// turn sends everything that is new to this reader; behind is true where more
// waits.
func (c *client) turn(ctx context.Context) (behind bool, err error) {
	if err := c.feed.pump(ctx, c.server); err != nil {
		return false, err
	}
	n, ok := c.feed.after(c.next)
	if !ok {
		return false, errBehind
	}
	for _, f := range n.frames {
		if err := c.send(f); err != nil {
			return false, err
		}
	}
	c.next += uint64(len(n.frames))
	if err := c.states(n.stands); err != nil {
		return false, err
	}
	if time.Since(c.beat) < c.cfg.Heartbeat {
		return n.behind, nil
	}
	// The comment keeps what lies between awake. A page can't see it, so the
	// state goes along: it tells the page that the hub is there.
	c.told = ""
	if err := c.send([]byte(": alive\n\n")); err != nil {
		return false, err
	}
	return n.behind, c.states(n.stands)
}

// states tells where the products stand, when that has changed.
func (c *client) states(stands map[string]state) error {
	all := make([]state, 0, len(c.deps.Catalogue))
	for _, p := range c.deps.Catalogue {
		if st, ok := stands[p.ID]; ok {
			all = append(all, st)
		}
	}
	b, err := json.Marshal(map[string]any{
		"plant_now": c.deps.PlantNow().Time().Format(port.Stamp), "plant_speed": c.speed(), "products": all,
	})
	if err != nil {
		return err
	}
	if string(b) == c.told {
		return nil
	}
	c.told = string(b)
	return c.send(event("progress", b))
}

func (c *client) send(b []byte) error {
	if err := c.ctl.SetWriteDeadline(time.Now().Add(writeWait)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := c.w.Write(b); err != nil {
		return err
	}
	c.beat = time.Now()
	return c.ctl.Flush()
}
