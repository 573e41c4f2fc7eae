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
	// AckPort makes the place durable before it returns.
	AckPort(ctx context.Context, port, product string, at mesh.Position) error
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
	Zone     *time.Location
	Products []Product
	LineOf   func(entity string) string // the line of an equipment or a source; empty: none
	Batch    int
	Retry    time.Duration
}

// Stream is the port. One goroutine uses it.
type Stream struct {
	cfg    Config
	out    Outputs
	pub    Publisher
	log    *slog.Logger
	places map[string]mesh.Position // as acknowledged; a product absent was not asked yet
}

// New assembles the port.
func New(cfg Config, out Outputs, pub Publisher, log *slog.Logger) *Stream {
	if cfg.Name == "" {
		cfg.Name = "stream"
	}
	if cfg.Batch <= 0 {
		cfg.Batch = 256
	}
	if cfg.Retry <= 0 {
		cfg.Retry = 2 * time.Second
	}
	return &Stream{cfg: cfg, out: out, pub: pub, log: log, places: map[string]mesh.Position{}}
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
	rows, err := s.out.Out(ctx, p.ID, place, s.cfg.Batch)
	if errors.Is(err, mesh.ErrGone) {
		// The hub went back to a backup, or pruned past us: everything that is
		// kept goes out again. Consumers tell repeats by (key, revision).
		s.log.WarnContext(ctx, "the place is gone, publish all that is kept", "product", p.ID, "place", place.String())
		rows, err = s.out.Out(ctx, p.ID, mesh.Position{}, s.cfg.Batch)
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
	at := rows[sent-1].At
	if ackErr := s.out.AckPort(ctx, s.cfg.Name, p.ID, at); ackErr != nil {
		return 0, errors.Join(err, fmt.Errorf("keep the place of %s: %w", p.ID, ackErr))
	}
	s.places[p.ID] = at
	return sent, err
}

// publish sends rows in order, and tells how many the stream has.
func (s *Stream) publish(ctx context.Context, p Product, rows []mesh.Row) (int, error) {
	if len(rows) == 0 {
		return 0, nil
	}
	enc := port.NewEncoder(p.Columns, p.Version, s.cfg.Zone)
	major, _, _ := strings.Cut(strings.TrimPrefix(p.Version, "v"), ".")
	messages := make([]Message, 0, len(rows))
	for _, r := range rows {
		b, err := enc.JSON(r)
		if err != nil {
			return 0, err
		}
		messages = append(messages, Message{
			Subject: subject.Product(s.cfg.Domain, p.ID, "v"+major, s.cfg.Site, s.line(r.Entity), r.Entity),
			ID:      fmt.Sprintf("%s/%x/%d", r.At.Log, r.At.Epoch[:], r.At.Seq),
			Data:    b,
		})
	}
	stored, err := s.pub.Publish(ctx, messages)
	if err != nil {
		err = fmt.Errorf("publish rows of %s: %w", p.ID, err)
	}
	return stored, err
}

// line is the line of an entity; the token "-" where it has none.
func (s *Stream) line(entity string) string {
	if s.cfg.LineOf == nil {
		return ""
	}
	return s.cfg.LineOf(entity)
}
