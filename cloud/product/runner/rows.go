package runner

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// rowsPage is how many rows are read back at once.
const rowsPage = 10_000

// kept is a row as it stands in the store.
type kept struct {
	from, to mesh.Nanos
	state    mesh.RowState
	revision uint32
	produced mesh.Nanos
	reach    mesh.Nanos // the end of what was known when it was made; 0: it was read back
	shape    string
	body     []byte
	next     *product.Draft // what it should be by now, where that was held back
}

func (k *kept) touches(since mesh.Nanos) bool { return k.to == 0 || k.to >= since }

// diff gathers what a commit changes.
type diff struct {
	product string
	now     mesh.Nanos
	growth  time.Duration
	settle  time.Duration
	all     bool                 // hold nothing back
	final   func(mesh.Span) bool // of the entity at hand
	end     mesh.Nanos           // of what is known of it
	hole    bool                 // records before what is known of it are still to come
	held    bool                 // something was held back
	more    bool                 // something is not folded yet
	through mesh.Nanos           // and up to here everything is

	rows   []mesh.Row
	states []mesh.FoldState
	stale  []mesh.Stale
}

// stretch is what drafts speak of: all rows that touch what is at or after since,
// and of them those that begin before stop and end by cut; never: wherever. The
// row with the key stays is none of them.
type stretch struct {
	since, stop, cut mesh.Nanos

	stays string
}

// compare finds which rows of an entity changed in a stretch.
func (d *diff) compare(e *entity, over stretch, drafts []product.Draft) {
	since := over.since
	stay := make(map[string]bool, len(drafts)+1)
	stay[over.stays] = true
	for i := range drafts {
		stay[drafts[i].Key] = true
	}
	// What vanished goes first: nobody may see it beside what takes its place.
	var gone []string
	for key, k := range e.rows {
		stands := k.from < e.floor && k.to != 0
		beyond := k.from >= over.stop || k.to > over.cut || k.to == 0 && over.cut != never
		if k.state != mesh.RowWithdrawn && k.touches(since) && !stay[key] && !stands && !beyond && k.vanishes(key, since, drafts) {
			gone = append(gone, key)
		}
	}
	slices.Sort(gone)
	for _, key := range gone {
		d.withdraw(e, key)
	}
	for i := range drafts {
		if drafts[i].From >= e.floor {
			d.put(e, &drafts[i])
		}
	}
}

// vanishes reports whether a row that no draft continues is in the stretch the
// drafts speak of. A row that ends where the stretch begins is not, unless a draft
// takes its place: of windows one of the same kind, for a shift says nothing of an
// hour.
func (k *kept) vanishes(key string, since mesh.Nanos, drafts []product.Draft) bool {
	if k.to == 0 || k.to > since {
		return true
	}
	kind, _, windows := strings.Cut(key, "/")
	return slices.ContainsFunc(drafts, func(x product.Draft) bool {
		return x.From <= k.from && (!windows || strings.HasPrefix(x.Key, kind+"/"))
	})
}

func (d *diff) put(e *entity, x *product.Draft) {
	was := e.rows[x.Key]
	k := &kept{from: x.From, to: x.To, state: mesh.RowProvisional, revision: 1, produced: d.now, reach: d.end, shape: x.Shape, body: x.Body}
	if d.final(mesh.Span{From: x.From, To: x.To}) {
		k.state = mesh.RowFinal
	}
	if was != nil {
		same := bytes.Equal(was.body, x.Body) && was.to == x.To && was.from == x.From
		switch {
		case same && (k.state == was.state || was.state == mesh.RowFinal):
			was.next = nil // what was final is, until it says something else
			return
		case was.state == mesh.RowProvisional:
			k.revision = was.revision
		default:
			k.revision = was.revision + 1
		}
		if d.hold(was, k) {
			was.next = x
			return
		}
	}
	d.emit(e, x.Key, k)
}

// mostGrowth is how far what is known may move on before an open row is made
// anew, whatever the machine's clock says: a backlog brings hours in a second, and
// who is told that they are known must not find a row that lacks them.
const mostGrowth = 5 * time.Minute

// hold reports whether a change can wait: of a row in which only numbers have
// changed.
func (d *diff) hold(was, now *kept) bool {
	wait := d.wait(now)
	if d.all || d.outgrown(was) || was.state != mesh.RowProvisional || now.state != mesh.RowProvisional || was.shape != now.shape ||
		was.from != now.from || was.to != now.to || d.now.Sub(was.produced) >= wait || d.now < was.produced {
		return false
	}
	d.held = true
	return true
}

// outgrown reports whether an open row lacks more than may be left out of it.
func (d *diff) outgrown(was *kept) bool {
	return !was.ends(d.end) && d.end.Sub(was.reach) > mostGrowth
}

// wait is the least time between two revisions of a row: of an open one, which
// grows; and while a hole is open of one that ended, which what fills the hole
// changes again and again.
func (d *diff) wait(k *kept) time.Duration {
	switch {
	case k.ends(d.end) && d.hole:
		return d.settle
	case k.ends(d.end):
		return 0
	}
	return d.growth
}

// ends reports whether a row has its end by an instant.
func (k *kept) ends(by mesh.Nanos) bool { return k.to != 0 && k.to <= by }

func (d *diff) withdraw(e *entity, key string) {
	was := e.rows[key]
	k := *was
	k.state, k.next, k.produced = mesh.RowWithdrawn, nil, d.now
	if was.state == mesh.RowFinal {
		k.revision++
	}
	d.emit(e, key, &k)
}

func (d *diff) emit(e *entity, key string, k *kept) {
	e.rows[key] = k
	delete(e.open, key)
	if k.state == mesh.RowProvisional {
		e.open[key] = k
	}
	d.rows = append(d.rows, mesh.Row{
		Product: d.product, Entity: e.id, Key: key, From: k.from, To: k.to, State: k.state,
		Revision: k.revision, Produced: k.produced, Body: k.body,
	})
}

// sweep looks after provisional rows that no fold has touched: they become
// final when the watermark has passed them, and what was held back goes out.
func (d *diff) sweep(e *entity) {
	var due []string
	for key, k := range e.open {
		if d.final(mesh.Span{From: k.from, To: k.to}) || k.next != nil && (d.all || d.outgrown(k) || d.now < k.produced || d.now.Sub(k.produced) >= d.wait(k)) {
			due = append(due, key)
		} else if k.next != nil {
			d.held = true
		}
	}
	slices.Sort(due)
	for _, key := range due {
		k := e.open[key]
		x := product.Draft{Key: key, From: k.from, To: k.to, Body: k.body, Shape: k.shape}
		if k.next != nil {
			x = *k.next
		}
		d.put(e, &x)
	}
}

// remember reads back the stored rows that a run may change: those that begin in
// its stretch, and those that reach into it. Windows are shorter than keepRows, and
// no interval but the one the run began in lies over its beginning.
func (r *Runner) remember(ctx context.Context, x *run, since, stop mesh.Nanos) error {
	begins := mesh.Span{From: since, To: stop}
	if since > always+mesh.Nanos(keepRows) {
		begins.From = since.Add(-keepRows)
	}
	if begins.From < x.rowsFrom {
		if err := r.recollect(ctx, x.entity, begins); err != nil {
			return err
		}
		if stop >= x.rowsFrom {
			x.rowsFrom = begins.From
		}
	}
	if x.was < begins.From && r.def.Fold == product.FoldIntervals && x.rows[product.TimeText(x.was)] == nil {
		return r.recollect(ctx, x.entity, mesh.Span{From: x.was, To: x.was + 1})
	}
	return nil
}

// recollect reads back the stored rows of an entity that begin in a span.
func (r *Runner) recollect(ctx context.Context, e *entity, begins mesh.Span) error {
	q := mesh.RowQuery{Product: r.def.ID, Entities: []string{e.id}, Begins: begins, Limit: rowsPage, Withdrawn: true}
	return r.pages(ctx, q, func(row *mesh.Row) { e.take(row) })
}

// take keeps a stored row, unless it is held already.
func (e *entity) take(row *mesh.Row) {
	if e.rows[row.Key] != nil {
		return
	}
	k := &kept{from: row.From, to: row.To, state: row.State, revision: row.Revision, produced: row.Produced, body: row.Body}
	e.rows[row.Key] = k
	if k.state == mesh.RowProvisional {
		e.open[row.Key] = k
	}
}

func (r *Runner) pages(ctx context.Context, q mesh.RowQuery, take func(*mesh.Row)) error {
	for {
		rows, next, err := r.out.Rows(ctx, q)
		if err != nil {
			return err
		}
		for i := range rows {
			take(&rows[i])
		}
		if next == "" {
			return nil
		}
		q.After = next
	}
}

// cover makes the rows of product coverage for one source.
func (r *Runner) cover(ctx context.Context, s *source, d *diff) error {
	if s.rows == nil {
		return nil
	}
	d.final = func(x mesh.Span) bool { return x.To != 0 && x.To <= s.voices.Watermark }
	d.end, d.hole = s.end(), false
	if s.rows.rowsFrom != always {
		if err := r.recollect(ctx, s.rows, mesh.Span{From: always, To: never}); err != nil {
			return err
		}
		s.rows.rowsFrom = always
	}
	if s.compare || s.rows.tip == nil {
		s.compare = false
		s.rows.tip = &product.State{} // compared once since it was read back
		d.compare(s.rows, stretch{stop: never, cut: never}, r.def.CoverageDrafts(s.name, &s.voices))
	}
	d.sweep(s.rows)
	return nil
}
