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
	// Waits of one whose token the hub takes no more, as when the key that signed it was
	// replaced; they double, as one that was revoked is refused for good.
	refusedFirst  = 3 * time.Second
	refusedLatest = 5 * time.Minute
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
// while there is one; else, once the token has ended or the hub does not take it, over
// HTTP, where edge.yaml says how the hub is asked. A newer one that somebody puts into
// hub.token is taken, too. What goes wrong is told once and tried again: collecting goes
// on.
func (a *agent) renew(ctx context.Context) error {
	told, r := "", renewer{agent: a, due: time.Now(), refused: refusedFirst}
	for {
		select {
		case <-ctx.Done():
			return nil
		case within := <-a.link.Asked():
			r.asked, r.due = true, time.Now().Add(dice(within))
		case <-time.After(min(lookEvery+dice(lookEvery), r.soon(time.Now()))): // so that not all agents ask at once
		}
		err := a.cfg.adopt()
		if now := time.Now(); err == nil {
			err = r.look(ctx, now)
		}
		if err == nil {
			told = ""
		} else if err.Error() != told && ctx.Err() == nil {
			told = err.Error()
			a.log.Warn("the hub's token is not renewed yet: it is tried again", "err", err)
		}
	}
}

func dice(within time.Duration) time.Duration {
	return time.Duration(rand.Int64N(max(1, int64(within)))) //nolint:gosec // dice
}

// renewer is when a token is renewed.
type renewer struct {
	*agent

	due     time.Time
	asked   bool          // the hub wants it renewed before its time
	refused time.Duration // how long to wait where the hub takes the token no more, and
	again   time.Time     // when it is asked again
}

// soon is how long it takes until something is due.
func (r *renewer) soon(now time.Time) time.Duration {
	if r.asked {
		return max(0, r.due.Sub(now))
	}
	return 2 * lookEvery
}

// look renews the token where that is due, or the hub wants it.
func (r *renewer) look(ctx context.Context, now time.Time) (err error) {
	switch {
	case r.link.Refused():
		if now.Before(r.again) {
			return nil
		}
		r.again, r.refused = now.Add(r.refused+dice(r.refused)), min(2*r.refused, refusedLatest)
		_, err = r.renewed(ctx, now, true)
		return err
	case r.due.After(now):
	default:
		var wait time.Duration
		wait, err = r.renewed(ctx, now, r.asked)
		r.due, r.asked = now.Add(wait), false
	}
	r.refused, r.again = refusedFirst, time.Time{}
	return err
}

// renewed renews the token where that is due, or at once, and says when to look again.
func (a *agent) renewed(ctx context.Context, now time.Time, once bool) (wait time.Duration, err error) {
	claims, err := readToken(a.cfg.renewedToken())
	if err != nil {
		return renewLatest, err
	}
	due, every := renewal(claims)
	if due.IsZero() && !once {
		return renewLatest, nil
	}
	if now.Before(due) && !once {
		return min(max(due.Sub(now), time.Second), renewLatest), nil
	}
	got, err := a.answered(ctx, claims, now)
	switch {
	case err != nil:
		return every, err
	case got.State == enroll.Pending && got.Why != "":
		return every, errors.New(got.Why)
	case got.State == "" || got.State == enroll.Pending:
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

// answered asks the hub the way there is; no state: there is none yet.
func (a *agent) answered(ctx context.Context, claims *jwt.UserClaims, now time.Time) (got enroll.Answer, err error) {
	ended := claims.Expires != 0 && !now.Before(time.Unix(claims.Expires, 0))
	switch refused := a.link.Refused(); {
	case a.link.Up():
		return a.link.Renew(ctx)
	case (ended || refused) && a.cfg.Hub.Enroll != "":
		return a.knock(ctx)
	case refused && !ended:
		return got, errors.New("the hub takes this agent's token no more, and edge.yaml has no hub.enroll to ask at: enrol the key again at the hub and put the new token in place")
	case ended:
		return got, errors.New("the token has ended, and edge.yaml has no hub.enroll to ask at: enrol the key again at the hub and put the new token in place")
	}
	return got, nil // the hub is away, and there is time
}

// knock asks as a gateway does that is not in yet: the hub knows its key.
func (a *agent) knock(ctx context.Context) (enroll.Answer, error) {
	signed, _, err := Sign(enroll.Request{Site: a.cfg.Site, Agent: a.cfg.Agent, Host: Host("")}, a.cfg.Hub.Key)
	if err != nil {
		return enroll.Answer{}, err
	}
	return Door{Hub: a.cfg.Hub.Enroll, Road: a.cfg.road(), CA: a.cfg.renewedToken()}.Knock(ctx, signed)
}
