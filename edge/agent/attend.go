package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"plantmesh/edge/source/mqtt"
	"plantmesh/edge/source/mqtt/mapping"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// ErrTaken is returned where the port of a listener is open already.
var ErrTaken = errors.New("another program listens there, most likely the agent that runs: end it for the test; or let it run and look at its status, which says who is connected, what is refused and what is left out")

// ErrListen is returned where nobody can listen at the address of a listener.
var ErrListen = errors.New("devices can't call there")

// attend listens for devices for a stay, and follows what they publish.
func (c *Config) attend(ctx context.Context, t *Tested, cfg *mqtt.ListenerConfig, stay Stay, now func() mesh.Nanos) error {
	t.MQTT, t.Endpoint, t.Journeys = true, cfg.Listen, []Journey{}
	m, err := mapping.New(&cfg.Mapping)
	if err != nil {
		return err
	}
	a, err := mqtt.Attend(ctx, cfg, stay, now)
	switch _, network := errors.AsType[*net.OpError](err); {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %w", cfg.Listen, ErrTaken)
	case network:
		return fmt.Errorf("%w: %w", ErrListen, err)
	case err != nil && ctx.Err() == nil: // a password or a certificate that the file names
		return &strict.Fault{File: t.File, What: err.Error()}
	case err != nil:
		return err
	}
	c.overhear(t, m, a.Heard)
	for i, user := range a.Users {
		t.Messages[i].User = user
	}
	t.Notes = attended(&a)
	return nil
}

// attended says how it went with the devices.
func attended(a *mqtt.Attended) (out []string) {
	for _, r := range a.Refused {
		out = append(out, "refused "+r)
	}
	if a.More > 0 {
		out = append(out, fmt.Sprintf("refused %d callers or messages more", a.More))
	}
	if a.Callers == 0 {
		out = append(out, "no device was let in")
	}
	if a.Open > 0 {
		out = append(out, fmt.Sprintf("%d messages with QoS 1 or 2 were not acknowledged: nothing of a test is kept, and their devices still have them for the agent", a.Open))
	}
	if a.Gone > 0 {
		out = append(out, fmt.Sprintf("%d messages with QoS 0 are gone: nothing of a test is kept, and a device does not say those again", a.Gone))
	}
	return out
}
