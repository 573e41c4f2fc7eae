package registry

import (
	"fmt"
	"path/filepath"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"plantmesh/proto/subject"
)

// domainName is what the account of the domain's products is called; for people.
const domainName = "production"

// domainAccount is the account in which a domain's products lie, and nothing else: who
// may be in it, or is given something of it, is so far from agents, their samples and
// what the hub tells them as from another hub.
func domainAccount(seed string, operator nkeys.KeyPair) (key, token string, err error) {
	if _, key, err = public(seed); err != nil {
		return "", "", err
	}
	a := jwt.NewAccountClaims(key)
	a.Name = "PRODUCTION"
	a.Limits.JetStreamLimits = ofStreams()
	// To whom it is given says who imports it; the hub alone signs accounts.
	a.Exports.Add(&jwt.Export{Name: "rows as they come", Subject: subject.ProductAll, Type: jwt.Stream})
	for _, s := range subject.ReaderAsks("", "*") {
		a.Exports.Add(&jwt.Export{Name: s, Subject: jwt.Subject(s), Type: jwt.Service, ResponseType: jwt.ResponseTypeStream})
	}
	if token, err = a.Encode(operator); err != nil {
		return "", "", fmt.Errorf("sign the domain's account: %w", err)
	}
	return key, token, nil
}

// ofStreams are the limits of an account whose streams have their own.
func ofStreams() jwt.JetStreamLimits {
	return jwt.JetStreamLimits{
		MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1, MaxAckPending: -1,
		MemoryMaxStreamBytes: -1, DiskMaxStreamBytes: -1,
	}
}

// MakeDomain makes the key of the domain's account where a hub of before has none. It is
// the running hub's to do, which alone has a use for it: two who did would each go on by
// a key of their own.
func (r *Registry) MakeDomain(by Actor) error {
	if r.keys.Domain != "" {
		return nil
	}
	k, err := r.read()
	if err != nil {
		return err
	}
	if k.Domain == "" {
		if k.Domain, err = newSeed(nkeys.CreateAccount); err != nil {
			return err
		}
		_, key, err := public(k.Domain)
		if err != nil {
			return err
		}
		act := Act{Actor: by, Action: "domain-key.make", Object: domainName, After: mark(key)}
		if err := r.change(act, func() error { return writeKeys(filepath.Join(r.dir, keysFile), r.keyFile, k) }); err != nil {
			return err
		}
	}
	r.keys.Domain = k.Domain
	operator, _, err := public(r.keys.Operator)
	if err != nil {
		return err
	}
	r.Trust.DomainKey, r.Trust.DomainJWT, err = domainAccount(k.Domain, operator)
	return err
}

// DomainUser makes the credentials of the hub itself inside the domain's account, as
// HubUser does.
func (r *Registry) DomainUser() (token, seed string, err error) { return hubUser(r.keys.Domain) }
