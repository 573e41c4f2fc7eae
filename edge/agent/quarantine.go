package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"plantmesh/edge/buffer"
	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
)

// Errors of what is set aside.
var (
	// ErrNotAside is returned where no record is called so.
	ErrNotAside = errors.New("no such record is set aside")
	// ErrNotReleased is returned for a record that can't be put into the log again.
	ErrNotReleased = errors.New("the record stays set aside")
)

// maxRawShown is how many bytes of a record that can't be read are shown.
const maxRawShown = 256

// aside is what is set aside, for the status socket.
type aside struct{ a *agent }

// Quarantine implements status.Quarantiner.
func (x aside) Quarantine() (q status.Quarantine, err error) {
	q = status.Quarantine{Records: []status.AsideRecord{}, Rules: []status.RuleFound{}, Since: stamp(x.a.began)}
	all, err := x.a.buffer.Quarantined()
	if err != nil {
		return q, err
	}
	for i := range all {
		q.Records = append(q.Records, asideOf(&all[i]))
	}
	rules, more := x.a.judge.Found()
	q.Rules, q.More = append(q.Rules, rules...), more
	return q, nil
}

func asideOf(a *buffer.Aside) status.AsideRecord {
	r := status.AsideRecord{ID: a.ID, At: a.At.String(), When: stamp(a.When), Cause: string(a.Cause), Why: a.Why, Source: a.Header.About, Count: a.Header.Count, Bytes: a.Bytes, Broken: a.Broken}
	if !a.Header.Times.Empty() {
		r.From, r.To = instant(a.Header.Times.From), instant(a.Header.Times.To)
	}
	return r
}

// OpenAside implements status.Quarantiner.
func (x aside) OpenAside(id string) (o status.Opened, err error) {
	a, err := x.a.buffer.SetAside(id)
	if err != nil {
		return o, err
	}
	o.AsideRecord = asideOf(&a)
	if a.Broken != "" || a.Header.Kind != mesh.KindBatch {
		o.Raw = a.Record.Sealed[:min(len(a.Record.Sealed), maxRawShown)]
		return o, nil
	}
	open, err := newOpener(x.a.buffer)
	if err != nil {
		return o, err
	}
	b, names, err := open.batch(a.Record)
	if err != nil {
		o.Broken = err.Error()
		return o, nil //nolint:nilerr // that is what is shown of it
	}
	for _, s := range b.Samples[:min(len(b.Samples), status.MaxPeeked)] {
		o.Samples = append(o.Samples, sampleOf(b.Source, s, names[s.Signal]))
	}
	return o, nil
}

// Release implements status.Quarantiner.
func (x aside) Release(ctx context.Context, id string) (status.Released, error) {
	r, err := x.a.buffer.Release(ctx, id)
	out := status.Released{ID: id, At: r.At.String()}
	for _, s := range r.Open {
		out.Open = append(out.Open, status.Stretch{From: instant(s.From), To: instant(s.To)})
	}
	return out, err
}

// Drop implements status.Quarantiner.
func (x aside) Drop(id string) (status.AsideRecord, error) {
	a, err := x.a.buffer.Drop(id)
	return asideOf(&a), err
}

// AskQuarantine asks the running agent what is set aside, and what rules found.
func AskQuarantine(ctx context.Context, cfg Config) (status.Quarantine, error) {
	if _, err := Status(ctx, cfg); err != nil {
		return status.Quarantine{}, err
	}
	return status.AskQuarantine(ctx, cfg.Status)
}

// OpenAside has the running agent open a record that was set aside.
func OpenAside(ctx context.Context, cfg Config, id string) (o status.Opened, err error) {
	if err := known(ctx, cfg, id); err != nil {
		return o, err
	}
	return status.OpenAside(ctx, cfg.Status, id)
}

// known says that a record is set aside.
func known(ctx context.Context, cfg Config, id string) error {
	q, err := AskQuarantine(ctx, cfg)
	if err != nil {
		return err
	}
	var ids []string
	for _, r := range q.Records {
		if r.ID == id {
			return nil
		}
		ids = append(ids, r.ID)
	}
	if len(ids) == 0 {
		return fmt.Errorf("%w: there is none at all", ErrNotAside)
	}
	return fmt.Errorf("%w: %q is none of %s", ErrNotAside, id, strings.Join(ids[:min(len(ids), 10)], ", "))
}

// ReleaseAside has the running agent try a record again that was set aside.
func ReleaseAside(ctx context.Context, cfg Config, id string) (r status.Released, err error) {
	if err := known(ctx, cfg, id); err != nil {
		return r, err
	}
	if r, err = status.Release(ctx, cfg.Status, id); err != nil {
		return r, fmt.Errorf("%w: %w", ErrNotReleased, err)
	}
	return r, nil
}

// DropAside has the running agent let the bytes of such a record go.
func DropAside(ctx context.Context, cfg Config, id string) (r status.AsideRecord, err error) {
	if err := known(ctx, cfg, id); err != nil {
		return r, err
	}
	return status.Drop(ctx, cfg.Status, id)
}
