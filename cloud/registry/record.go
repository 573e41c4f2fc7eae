package registry

import (
	"errors"
	"fmt"
)

// Actor is who changes something, for the record.
type Actor struct {
	Who     string
	Via     string // the way it came, as cli
	Address string // it came from; empty: this machine
}

// Act is a change of who is let in, before it takes effect.
type Act struct {
	Actor

	Action string // as agent.approve
	Object string // as graz/gw-1
	Before string
	After  string
	Reason string
}

// change has an act recorded and then done: what is not recorded is not done. One that
// could not be done is recorded once more, as such.
func (r *Registry) change(a Act, do func() error) error {
	if r.Record == nil {
		return do()
	}
	if err := r.Record(a); err != nil {
		return fmt.Errorf("%s of %s is not recorded, and so not done: %w", a.Action, a.Object, err)
	}
	err := do()
	if err != nil {
		a.Action, a.Reason = a.Action+".failed", err.Error()
		err = errors.Join(err, r.Record(a))
	}
	return err
}
