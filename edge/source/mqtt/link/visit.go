package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"plantmesh/proto/mesh"
)

// Heard is one message of a visit.
type Heard struct {
	Topic    string
	Payload  []byte
	At       mesh.Nanos // plant clock
	Retained bool       // said before we came
	TooLarge bool       // Payload is only its beginning
}

// Stay says how long a visit lasts.
type Stay struct {
	Messages int
	Within   time.Duration // of the connection
	Bytes    int           // of all payloads
	Retained bool          // what the broker keeps counts, too
	// Counts says whether a message is one of those; nil: each is. What is none is left out.
	Counts func(topic []byte) bool
	// Open is told where devices can call, by who listens for them; nil: nobody asks.
	Open func(address string)
}

// VisitError is a broker that could not be heard.
type VisitError struct {
	URL string
	Err error
}

func (e *VisitError) Error() string { return fmt.Sprintf("%s: %v", e.URL, e.Err) }
func (e *VisitError) Unwrap() error { return e.Err }

// Visit hears what a broker says, beside whoever else does: under a name of its own, in
// a session that ends with it, with QoS 0, so that nothing is kept or held up for it. It
// publishes nothing. It gives what came until enough did or the time was over; now is the
// plant clock.
func Visit(ctx context.Context, cfg *Config, filters []string, stay Stay, now func() mesh.Nanos) (all []Heard, err error) {
	name := make([]byte, 8)
	_, _ = rand.Read(name) // never fails
	l, _, err := Dial(ctx, cfg, Hello{ClientID: "plantmesh-test-" + hex.EncodeToString(name), CleanStart: true})
	if err != nil {
		return nil, &VisitError{cfg.URL, err}
	}
	defer l.Close()
	within, cancel := context.WithTimeout(ctx, stay.Within)
	defer cancel()
	defer context.AfterFunc(within, l.Close)()
	var subs []Subscription
	for _, f := range filters {
		subs = append(subs, Subscription{Filter: f, Retained: stay.Retained})
	}
	if err := l.Subscribe(subs...); err != nil {
		return nil, &VisitError{cfg.URL, err}
	}
	for p, size := (Packet{}), 0; len(all) < stay.Messages && size < stay.Bytes; {
		kind, err := l.Next(&p)
		switch {
		case ctx.Err() != nil:
			return all, ctx.Err()
		case err != nil && within.Err() != nil: // its time is over
			return all, nil
		case err != nil:
			return all, &VisitError{cfg.URL, err}
		case kind == Published && (stay.Counts == nil || stay.Counts(p.Topic)):
			size += len(p.Payload)
			all = append(all, Heard{string(p.Topic), bytes.Clone(p.Payload), now(), p.Retained, p.TooLarge})
		}
	}
	_ = l.Leave() // what was heard is heard
	return all, nil
}
