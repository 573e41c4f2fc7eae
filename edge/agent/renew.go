package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/jwt/v2"

	"plantmesh/proto/enroll"
)

const (
	// renewPart of a token's life is over when a new one is asked for: what is left is
	// for an outage of the hub.
	renewPart = 3
	// lookEvery is how often somebody may find a token that a person has put there.
	lookEvery = time.Second
	// Waits between two tries.
	renewSoonest = time.Second
	renewLatest  = time.Hour
)

// renewal is when a token is due to be renewed, and how long to wait between two tries.
// A token without an end is never due.
func renewal(c *jwt.UserClaims) (due time.Time, every time.Duration) {
	if c.Expires == 0 {
		return time.Time{}, renewLatest
	}
	began := time.Unix(c.IssuedAt, 0)
	life := time.Unix(c.Expires, 0).Sub(began)
	return began.Add(life / renewPart), min(max(life/100, renewSoonest), renewLatest)
}

// renew has the hub's token renewed before it ends, until ctx ends. Over the connection
// while there is one; else, once the token has ended, over HTTP, where edge.yaml says
// how the hub is asked. A newer one that somebody puts into hub.token is taken, too.
// What goes wrong is told once and tried again: collecting goes on.
func (a *agent) renew(ctx context.Context) error {
	told, due := "", time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookEvery + time.Duration(rand.Int64N(int64(lookEvery)))): //nolint:gosec // dice, so that not all agents ask at once
		}
		err := a.cfg.adopt()
		if now := time.Now(); err == nil && !now.Before(due) {
			var wait time.Duration
			wait, err = a.renewed(ctx, now)
			due = now.Add(wait)
		}
		if err == nil {
			told = ""
		} else if err.Error() != told && ctx.Err() == nil {
			told = err.Error()
			a.log.Warn("the hub's token is not renewed yet: it is tried again", "err", err)
		}
	}
}

// renewed renews the token where that is due, and says when to look again.
func (a *agent) renewed(ctx context.Context, now time.Time) (wait time.Duration, err error) {
	claims, err := readToken(a.cfg.renewedToken())
	if err != nil {
		return renewLatest, err
	}
	due, every := renewal(claims)
	if due.IsZero() {
		return renewLatest, nil
	}
	if now.Before(due) {
		return min(max(due.Sub(now), time.Second), renewLatest), nil
	}
	var got enroll.Answer
	switch ended := !now.Before(time.Unix(claims.Expires, 0)); {
	case a.link.Up():
		got, err = a.link.Renew(ctx)
	case ended && a.cfg.Hub.Enroll != "":
		got, err = a.knock(ctx)
	case ended:
		return every, errors.New("the token has ended, and edge.yaml has no hub.enroll to ask at: enrol the key again at the hub and put the new token in place")
	default:
		return every, nil // the hub is away, and there is time
	}
	switch {
	case err != nil:
		return every, err
	case got.State == enroll.Pending:
		return every, nil
	case got.State != enroll.Approved:
		return every, fmt.Errorf("the hub lets this agent in no more: %s", got.Why)
	}
	if err := Admit(got, a.cfg.Hub.Key, a.cfg.renewedToken()); err != nil {
		return every, err
	}
	a.log.Info("the hub has renewed this agent's token")
	return time.Second, nil // how long that is good for says the file
}

// knock asks as a gateway does that is not in yet: the hub knows its key.
func (a *agent) knock(ctx context.Context) (enroll.Answer, error) {
	signed, _, err := Sign(enroll.Request{Site: a.cfg.Site, Agent: a.cfg.Agent, Host: Host("")}, a.cfg.Hub.Key)
	if err != nil {
		return enroll.Answer{}, err
	}
	return Knock(ctx, a.cfg.Hub.Enroll, a.cfg.renewedToken(), signed)
}
