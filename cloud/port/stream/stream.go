// Package stream is the NATS port: every row that changes in a product is
// published on the subject of its equipment, in the order of the output log.
//
// Publishing and remembering the place are two steps. A crash between them
// publishes rows again; the message id is the row's position in the output
// log, so the stream drops the repeat, and a consumer that sees one outside
// the stream's duplicate window can tell it by that id.
package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"plantmesh/cloud/port"
	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
)

// Outputs reads output logs and keeps how far this port has come. Safe for
// concurrent use.
type Outputs interface {
	// Out is what was committed behind after, oldest first, no more than most rows;
	// mesh.ErrGone where after is off the chain or no longer kept.
	Out(ctx context.Context, product string, after mesh.Position, most int) ([]mesh.Row, error)
	// PortPlace is the place last acknowledged; zero where none was.
	PortPlace(ctx context.Context, port, product string) (mesh.Position, error)
	// AckPort makes the place durable before it returns; mesh.ErrMoved where the
	// place is not the one it was moved from.
	AckPort(ctx context.Context, port, product string, was, at mesh.Position) error
}

// Rows are the rows as they are now. Safe for concurrent use.
type Rows interface {
	// Rows reads current rows page by page, see mesh.RowQuery.
	Rows(ctx context.Context, q mesh.RowQuery) (rows []mesh.Row, next string, err error)
	// End is the position of the newest record of an output log; zero where none
	// is kept.
	End(ctx context.Context, product string) (mesh.Position, error)
}

// Message is one row on its way.
type Message struct {
	Subject, ID string
	Data        []byte
}

// Publisher sends messages. One goroutine uses it.
type Publisher interface {
	// Publish sends messages in order and returns how many of them, from the
	// first on without a hole, the stream has stored or already had by their
	// id. Later ones may be stored too: sent again, they are told by that id.
	Publish(ctx context.Context, messages []Message) (stored int, err error)
}

// Product is a product to publish.
type Product struct {
	ID, Version string
	Columns     []string // in the order of the contract; may be empty
}

// Config says what is published, and where. Name is the port's in the store;
// a zero Batch means 256 rows in one step, a zero Retry 2 s.
type Config struct {
	Name     string
	Domain   string
	Site     string
	Zone     func() *time.Location // the site's, as it is then; nil: UTC
	Products []Product
	LineOf   func(entity string) string // the line of an equipment or a source; empty: none
	// Whole: a product that has no place begins with every row as it is, else with the
	// oldest change that is kept. Of one that changed before that, nobody would hear.
	Whole bool
	Batch int
	Retry time.Duration
}

// Stream is the port. One goroutine uses it.
type Stream struct {
	cfg    Config
	out    Outputs
	rows   Rows
	pub    Publisher
	log    *slog.Logger
	places map[string]mesh.Position // as acknowledged; a product absent was not asked yet
	// anew are products of which every row goes out as it is now, because the
	// place is gone.
	anew map[string]*anew
}

// anew is how far that has come.
type anew struct {
	end  mesh.Position // of the output log when it began: it goes on from there
	next string        // cursor
}

// New assembles the port.
func New(cfg Config, out Outputs, rows Rows, pub Publisher, log *slog.Logger) *Stream {
	if cfg.Name == "" {
		cfg.Name = "stream"
	}
	if cfg.Batch <= 0 {
		cfg.Batch = 256
	}
	if cfg.Retry <= 0 {
		cfg.Retry = 2 * time.Second
	}
	if cfg.Zone == nil {
		cfg.Zone = func() *time.Location { return time.UTC }
	}
	return &Stream{cfg: cfg, out: out, rows: rows, pub: pub, log: log, places: map[string]mesh.Position{}, anew: map[string]*anew{}}
}

// Run publishes until ctx ends. Changed gives a channel that is closed at the
// next commit of an output log.
func (s *Stream) Run(ctx context.Context, changed func() <-chan struct{}) error {
	for ctx.Err() == nil {
		wake := changed()
		worked, err := s.Step(ctx)
		if worked && err == nil {
			continue
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "publish rows", "err", err)
			wake = nil // the fault heals with time, not with more rows
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-time.After(s.cfg.Retry):
		}
	}
	return nil
}

// Step publishes the next rows of every product, and moves their places behind
// them. A product that fails does not hold up the others; what went out before
// the fault is not published again unless the process ends here.
func (s *Stream) Step(ctx context.Context) (worked bool, err error) {
	for _, p := range s.cfg.Products {
		n, stepErr := s.product(ctx, p)
		worked = worked || n > 0
		err = errors.Join(err, stepErr)
	}
	return worked, err
}

func (s *Stream) product(ctx context.Context, p Product) (int, error) {
	place, ok := s.places[p.ID]
	if !ok {
		var err error
		if place, err = s.out.PortPlace(ctx, s.cfg.Name, p.ID); err != nil {
			return 0, fmt.Errorf("read the place of %s: %w", p.ID, err)
		}
		s.places[p.ID] = place
	}
	if a := s.anew[p.ID]; a != nil {
		return s.goOnAnew(ctx, p, a)
	}
	if place.IsZero() && s.cfg.Whole {
		return s.beginAnew(ctx, p, false)
	}
	rows, err := s.out.Out(ctx, p.ID, place, s.cfg.Batch)
	if errors.Is(err, mesh.ErrGone) {
		// Where the hub went back under this port, the place went back with it.
		// Rows as they are now, and then those of before them, would end a reader
		// that goes by arrival on an old revision.
		kept, err := s.out.PortPlace(ctx, s.cfg.Name, p.ID)
		if err != nil {
			return 0, fmt.Errorf("read the place of %s: %w", p.ID, err)
		}
		if kept != place {
			s.log.WarnContext(ctx, "the place went back with the hub: from there on", "product", p.ID, "place", kept.String(), "was", place.String())
			s.places[p.ID] = kept
			return s.product(ctx, p)
		}
		// The hub went back to a backup, or the port was away for so long that
		// what it had not read yet was pruned.
		s.log.WarnContext(ctx, "the place is off the log or no longer kept: every row goes out as it is now", "product", p.ID, "place", place.String())
		return s.beginAnew(ctx, p, true)
	}
	if err != nil {
		return 0, fmt.Errorf("read the output of %s: %w", p.ID, err)
	}
	fault.Point("hub.port.before")
	sent, err := s.publish(ctx, p, rows)
	fault.Point("hub.port.after")
	if sent == 0 {
		return 0, err
	}
	return sent, errors.Join(err, s.ack(ctx, p, rows[sent-1].At))
}

// ack keeps the place.
func (s *Stream) ack(ctx context.Context, p Product, at mesh.Position) error {
	if err := s.out.AckPort(ctx, s.cfg.Name, p.ID, s.places[p.ID], at); err != nil {
		if errors.Is(err, mesh.ErrMoved) { // somebody else went on: from there
			delete(s.places, p.ID)
			delete(s.anew, p.ID)
		}
		return fmt.Errorf("keep the place of %s: %w", p.ID, err)
	}
	s.places[p.ID] = at
	return nil
}

// beginAnew has every row of a product go out as it is now. Where that is none, a place
// that is off the log is forgotten all the same.
func (s *Stream) beginAnew(ctx context.Context, p Product, off bool) (int, error) {
	end, err := s.rows.End(ctx, p.ID)
	if err != nil {
		return 0, fmt.Errorf("find the end of %s: %w", p.ID, err)
	}
	if end.IsZero() && !off {
		return 0, nil
	}
	s.anew[p.ID] = &anew{end: end}
	return s.goOnAnew(ctx, p, s.anew[p.ID])
}

// goOnAnew sends the next page of a product's rows as they are now, withdrawn
// ones too: of a row that changed while nobody read, that is what must be known.
// A row that changes meanwhile comes again from the output log.
func (s *Stream) goOnAnew(ctx context.Context, p Product, a *anew) (int, error) {
	rows, next, err := s.rows.Rows(ctx, mesh.RowQuery{Product: p.ID, After: a.next, Limit: s.cfg.Batch, Withdrawn: true})
	if err != nil {
		return 0, fmt.Errorf("read the rows of %s: %w", p.ID, err)
	}
	sent, err := s.publish(ctx, p, rows)
	if err != nil {
		return 0, err // this page again: its ids are the same
	}
	if a.next = next; next != "" {
		return sent, nil
	}
	if err := s.ack(ctx, p, a.end); err != nil {
		return 0, err // the last page comes again
	}
	delete(s.anew, p.ID)
	return sent, nil
}

// publish sends rows in order, and tells how many the stream has.
func (s *Stream) publish(ctx context.Context, p Product, rows []mesh.Row) (int, error) {
	if len(rows) == 0 {
		return 0, nil
	}
	enc := port.NewEncoder(p.Columns, p.Version, s.cfg.Zone())
	major, _, _ := strings.Cut(strings.TrimPrefix(p.Version, "v"), ".")
	messages := make([]Message, 0, len(rows))
	for _, r := range rows {
		b, err := enc.JSON(r)
		if err != nil {
			return 0, err
		}
		messages = append(messages, Message{
			Subject: subject.Product(s.cfg.Domain, p.ID, "v"+major, s.cfg.Site, s.line(r.Entity), r.Entity),
			ID:      idOf(r),
			Data:    b,
		})
	}
	stored, err := s.pub.Publish(ctx, messages)
	if err != nil {
		err = fmt.Errorf("publish rows of %s: %w", p.ID, err)
	}
	return stored, err
}

// idOf is by what a consumer tells that it has a change of a row already.
func idOf(r mesh.Row) string { return fmt.Sprintf("%s/%x/%d", r.At.Log, r.At.Epoch[:], r.At.Seq) }

// line is the line of an entity; the token "-" where it has none.
func (s *Stream) line(entity string) string {
	if s.cfg.LineOf == nil {
		return ""
	}
	return s.cfg.LineOf(entity)
}
