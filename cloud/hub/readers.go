package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/access"
	"plantmesh/cloud/product"
	"plantmesh/cloud/registry"
	"plantmesh/proto/subject"
)

const (
	// readersAgain is how often consumers are made sure of where nothing has changed: the
	// stream may have been made anew.
	readersAgain = 30 * time.Second
	// readerPending is how many rows a reader may have taken and not said it has.
	readerPending = 4096
)

// AddReader lets somebody read products over NATS, all of them where none is named; see
// registry. A hub that runs has it in force within revokeEvery.
func AddReader(cfg Config, name string, products []string, lifetime time.Duration, note string, now time.Time) (registry.Reader, string, error) {
	site, err := siteOf(cfg)
	if err != nil {
		return registry.Reader{}, "", err
	}
	reads, err := patternsOf(site.Domain, products)
	if err != nil {
		return refused(registry.Reader{}, "", err)
	}
	reg, err := recording(cfg)
	if err != nil {
		return registry.Reader{}, "", err
	}
	return refused(reg.AddReader(registry.Reader{Name: name, Domain: site.Domain, Reads: reads, Note: note}, lifetime, operator(), now))
}

// RenewReader gives a reader other credentials; those of before end.
func RenewReader(cfg Config, name string, lifetime time.Duration, now time.Time) (registry.Reader, string, error) {
	reg, err := recording(cfg)
	if err != nil {
		return registry.Reader{}, "", err
	}
	return refused(reg.RenewReader(name, lifetime, operator(), now))
}

// RevokeReader ends what a reader may. A hub that runs closes its connections within
// revokeEvery.
func RevokeReader(cfg Config, name, why string, now time.Time) (registry.Reader, error) {
	reg, err := recording(cfg)
	if err != nil {
		return registry.Reader{}, err
	}
	r, err := reg.RevokeReader(name, why, operator(), now)
	r, _, err = refused(r, "", err)
	return r, err
}

// RewindReader has a reader read again what was published at an instant and later; nil: all
// that the stream has. A hub that runs has it in force within revokeEvery.
func RewindReader(cfg Config, name string, from *time.Time, why string, now time.Time) (registry.Reader, error) {
	reg, err := recording(cfg)
	if err != nil {
		return registry.Reader{}, err
	}
	r, err := reg.RewindReader(name, from, why, operator(), now)
	r, _, err = refused(r, "", err)
	return r, err
}

// Readers lists who may read products over NATS, and might.
func Readers(cfg Config) ([]registry.Reader, error) {
	reg, err := openRegistry(cfg)
	if err != nil {
		return nil, err
	}
	return reg.Readers()
}

func refused(r registry.Reader, credentials string, err error) (registry.Reader, string, error) {
	if errors.Is(err, registry.ErrReader) || errors.Is(err, registry.ErrNoReader) || errors.Is(err, registry.ErrRewind) {
		err = fmt.Errorf("%w: %w", access.ErrRefused, err)
	}
	return r, credentials, err
}

// patternsOf are the patterns of some products of a domain, or of all.
func patternsOf(domain string, products []string) (out []string, err error) {
	if len(products) == 0 {
		return []string{subject.Products(domain, "")}, nil
	}
	defs, err := product.Definitions()
	if err != nil {
		return nil, err
	}
	var there []string
	for _, d := range defs {
		if d.Fold != product.FoldSamples { // published
			there = append(there, d.ID)
		}
	}
	for _, p := range products {
		if !slices.Contains(there, p) {
			return nil, fmt.Errorf("%w: no product %q is published: there are %s", registry.ErrReader, p, strings.Join(there, ", "))
		}
		out = append(out, subject.Products(domain, p))
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// lending is who lets others read, for who calls by HTTP.
type lending struct{ *hub }

// Readers implements desk.Readers.
func (l lending) Readers() ([]registry.Reader, error) { return l.reg.Readers() }

// AddReader implements desk.Readers. It is in force within revokeEvery, as what follows.
func (l lending) AddReader(want registry.Reader, products []string, lifetime time.Duration, by registry.Actor) (registry.Reader, string, error) {
	want.Domain = l.site().Domain
	var err error
	if want.Reads, err = patternsOf(want.Domain, products); err != nil {
		return registry.Reader{}, "", err
	}
	l.gate.mu.Lock()
	defer l.gate.mu.Unlock()
	return l.reg.AddReader(want, lifetime, by, time.Now())
}

// RenewReader implements desk.Readers.
func (l lending) RenewReader(name string, lifetime time.Duration, by registry.Actor) (registry.Reader, string, error) {
	l.gate.mu.Lock()
	defer l.gate.mu.Unlock()
	return l.reg.RenewReader(name, lifetime, by, time.Now())
}

// RewindReader implements desk.Readers.
func (l lending) RewindReader(name string, from *time.Time, why string, by registry.Actor) (registry.Reader, error) {
	l.gate.mu.Lock()
	defer l.gate.mu.Unlock()
	return l.reg.RewindReader(name, from, why, by, time.Now())
}

// RevokeReader implements desk.Readers.
func (l lending) RevokeReader(name, why string, by registry.Actor) (registry.Reader, error) {
	l.gate.mu.Lock()
	defer l.gate.mu.Unlock()
	return l.reg.RevokeReader(name, why, by, time.Now())
}

// readers keeps the server's accounts and consumers of readers as the registry has them,
// until ctx ends.
func (h *hub) readers(ctx context.Context) error {
	t := time.NewTicker(revokeEvery)
	defer t.Stop()
	js, err := jetstream.New(h.domain)
	if err != nil {
		return fmt.Errorf("open the consumers of readers: %w", err)
	}
	r := &readership{hub: h, js: js, inForce: map[string]registry.Reader{}}
	for {
		if err := r.look(ctx, time.Now()); err != nil && ctx.Err() == nil {
			h.log.WarnContext(ctx, "who may read products is not in force yet, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// readership is who may read, as the server has it.
type readership struct {
	hub     *hub
	js      jetstream.JetStream
	inForce map[string]registry.Reader // by name
	made    time.Time                  // when all consumers were made sure of
}

// look puts into force what has changed.
func (r *readership) look(ctx context.Context, now time.Time) error {
	all, err := r.hub.reg.Readers()
	if err != nil {
		return err
	}
	again := now.Sub(r.made) >= readersAgain
	var faults error
	for i := range all {
		was, known := r.inForce[all[i].Name]
		changed := !known || !was.Changed.Equal(all[i].Changed)
		if !changed && (!again || all[i].Revoked != nil) {
			continue
		}
		if err := r.put(ctx, &all[i], was, changed); err != nil {
			faults = errors.Join(faults, fmt.Errorf("reader %s: %w", all[i].Name, err))
			continue
		}
		r.inForce[all[i].Name] = all[i]
	}
	if again && faults == nil {
		r.made = now
	}
	return faults
}

// put makes account and consumer of one reader what they have to be. What it may no more
// ends first.
func (r *readership) put(ctx context.Context, is *registry.Reader, was registry.Reader, changed bool) error {
	if was.Account != "" && (was.Account != is.Account || is.Revoked != nil) {
		if err := r.account(&was, false); err != nil {
			return err
		}
	}
	if is.Revoked != nil {
		return r.forget(ctx, is.Name)
	}
	want, again := consumerOf(is), false
	if c, err := r.js.Consumer(ctx, subject.ProductStream, is.Name); err == nil && c.CachedInfo().Config.Description != want.Description {
		// Another one's of this name, who had rows that this one lacks, or from before it was
		// rewound. Whoever reads by it would be told that it is gone, and give up; one that
		// lost its connection comes again. A hub that ends here makes it at its next look.
		if err := r.hub.dismiss(is.Account); err != nil {
			return err
		}
		if err := r.forget(ctx, is.Name); err != nil {
			return err
		}
		again = true
	}
	_, err := r.js.CreateOrUpdateConsumer(ctx, subject.ProductStream, want)
	if err == nil && again { // who came between asked nobody, and would not ask again for half a minute
		err = r.hub.dismiss(is.Account)
	}
	if err != nil || !changed {
		return err
	}
	return r.account(is, true)
}

// consumerOf is a reader's consumer. Its description says whose it is and since when: one
// with another is made anew.
func consumerOf(is *registry.Reader) jetstream.ConsumerConfig {
	c := jetstream.ConsumerConfig{
		Durable: is.Name, Description: "reader " + is.Name + ", added " + is.Added.Format(time.RFC3339Nano), FilterSubjects: is.Reads,
		AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy, MaxAckPending: readerPending,
	}
	if w := is.Rewound; w != nil {
		c.Description += ", rewound " + w.At.Format(time.RFC3339Nano)
		if w.From != nil {
			c.DeliverPolicy, c.OptStartTime = jetstream.DeliverByStartTimePolicy, w.From
		}
	}
	return c
}

// dismiss closes the connections of an account, which may come again at once.
func (h *hub) dismiss(account string) error {
	there, err := h.nats.Connz(&server.ConnzOptions{Account: account})
	if err != nil {
		return fmt.Errorf("find the connections: %w", err)
	}
	for _, c := range there.Conns {
		_ = h.nats.DisconnectClientByID(c.Cid) // one that is gone by now
	}
	return nil
}

// forget deletes a reader's consumer, and with it how far that has come.
func (r *readership) forget(ctx context.Context, name string) error {
	err := r.js.DeleteConsumer(ctx, subject.ProductStream, name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return err
}

// account has the server take a reader's account as it is now. One that may read no more
// loses its connections.
func (r *readership) account(is *registry.Reader, good bool) error {
	token, err := r.hub.reg.ReaderAccount(is, good)
	if err != nil {
		return err
	}
	return r.hub.account(is.Account, token)
}

// account has the server take an account as a token says it is. It closes the connections
// that were opened with other rights.
func (h *hub) account(key, token string) error {
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return fmt.Errorf("read the account: %w", err)
	}
	if err := h.accounts.Store(key, token); err != nil {
		return fmt.Errorf("keep the account: %w", err)
	}
	account, err := h.nats.LookupAccount(key)
	if err != nil {
		return fmt.Errorf("find the account: %w", err)
	}
	h.nats.UpdateAccountClaims(account, claims)
	return nil
}
