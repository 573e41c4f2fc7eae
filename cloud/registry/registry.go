// Package registry keeps the identities of a hub: its own keys and the agents
// enrolled with it. An agent makes its key pair itself and hands in the public
// half; what it gets back is a signed user JWT that lets it publish its own
// records and read its own receipts, and nothing else.
package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"plantmesh/proto/enroll"
	"plantmesh/proto/wire"
)

// Errors of the registry.
var (
	// ErrName is returned for a site or agent name that could widen a subject.
	ErrName = errors.New("use lower case letters, digits, '-' and '_', at most 63, beginning with a letter or digit")
	// ErrTaken is returned when an agent of this name was enrolled with another key.
	ErrTaken = errors.New("an agent of this name is enrolled with another key; if its gateway was replaced, plantmesh agents revoke comes first")
	// ErrGone is returned where a folder of the registry is missing or can't be read: nobody
	// can tell then who is enrolled, and who was revoked.
	ErrGone = errors.New("the registry can't be read")
)

// Bounds of how long an agent's token may be good for. An agent renews it from a
// third of its life on, so it must outlast an outage of the hub; a key that is not
// to be used any more is revoked, not waited for.
const (
	MinLifetime = 10 * time.Second
	MaxLifetime = 400 * 24 * time.Hour
)

// Names in the registry's folder.
const (
	keysFile      = "keys.json"
	agentsFolder  = "agents"
	revokedFolder = "revoked"
	askedFolder   = "asked"   // gateways that ask to be let in, by their keys; the hub writes them
	decidedFolder = "decided" // what was decided on them
	invitesFolder = "invites" // one-time keys, and who used them
	// revisionsFolder has a folder for each agent, site.name, and in it a file for each revision.
	revisionsFolder = "revisions"
	readersFolder   = "readers" // of the domain's products
)

// agentRole names the scoped signing key that can make agents and nothing else.
const agentRole = "agent"

// Agent is one enrolled agent.
type Agent struct {
	Site      string    `json:"site"`
	Name      string    `json:"name"`
	PublicKey string    `json:"public_key"`
	Enrolled  time.Time `json:"enrolled"`
	Expires   time.Time `json:"expires"`
	// Signer is the public key that signed its token last; empty: the first one.
	Signer string `json:"signer,omitempty"`
	// Revoked is when the key was revoked; nil: it is good. It is not in this
	// file but in the key's own.
	Revoked *time.Time `json:"revoked,omitempty"`
}

// Trust is what the embedded NATS server needs: nobody else does.
type Trust struct {
	OperatorJWT   string
	SystemKey     string // public key of the system account
	SystemJWT     string
	PlantKey      string // public key of the account of the edge
	PlantJWT      string
	DomainKey     string // public key of the account of the domain's products; see MakeDomain
	DomainJWT     string
	Signing       Signing  // the keys that sign agents' tokens, and
	Signers       []string // those by which PlantJWT takes them
	OperatorToken *jwt.OperatorClaims
}

// keys is what lies in keys.json, mode 0600. Seeds never leave the folder.
type keys struct {
	Operator string `json:"operator_seed"`
	System   string `json:"system_seed"`
	Plant    string `json:"plant_seed"`
	Domain   string `json:"domain_seed,omitempty"` // a hub of before has none
	Agents   string `json:"agent_signing_seed"`
	// Retired signed agents' tokens before; see rotate.go.
	Retired []Retired `json:"agent_signing_keys_of_before,omitempty"`
	// Authority signs what the hub's listeners show; both in PEM.
	Authority    string `json:"authority"`
	AuthorityKey string `json:"authority_key"`
}

// Registry is the identities in one folder. Safe for use by several processes
// as far as the file system renames atomically; not safe for concurrent use.
type Registry struct {
	dir     string
	keyFile string // what keys.json is sealed with; empty: it is not
	keys    keys
	crowd   crowd
	Trust   Trust
	// Record is told of each change before it takes effect; its error keeps it from
	// that. nil: nobody records.
	Record func(Act) error
}

// Open reads the registry in dir, making keys at first use.
func Open(dir string) (*Registry, error) { return OpenSealed(dir, "") }

// OpenSealed is Open of a registry whose keys are encrypted with the key in a file, which
// is made at first use. Keys that are not encrypted yet are then.
func OpenSealed(dir, keyFile string) (*Registry, error) {
	if err := whole(dir); err != nil {
		return nil, err
	}
	if err := Folders(dir); err != nil {
		return nil, err
	}
	r := &Registry{dir: dir, keyFile: keyFile}
	if err := r.open(filepath.Join(dir, keysFile), keyFile); err != nil {
		return nil, err
	}
	var err error
	if r.Trust, err = trust(r.keys); err != nil {
		return nil, err
	}
	revoked, err := r.Revoked()
	if err != nil {
		return nil, err
	}
	if r.Trust.Signing, err = r.keys.signing(); err != nil {
		return nil, err
	}
	r.Trust.Signers = r.Trust.Signing.Good(time.Now())
	r.Trust.PlantJWT, err = r.PlantAccount(revoked, r.Trust.Signers)
	return r, err
}

// Folders makes the folders of a registry, as far as they are not there: a backup has those
// alone in which files lie.
func Folders(dir string) error {
	for _, sub := range []string{agentsFolder, revokedFolder, askedFolder, decidedFolder, invitesFolder, revisionsFolder, readersFolder} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return fmt.Errorf("make the registry's folder: %w", err)
		}
	}
	return nil
}

// whole refuses a registry that has keys and not the folders that were always beside them.
// Made anew, without a file in them, they would say that no agent is enrolled, and that no
// key was ever revoked.
func whole(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, keysFile)); err != nil {
		return nil //nolint:nilerr // a new one, or one that says so when its keys are read
	}
	for _, sub := range []string{agentsFolder, revokedFolder} {
		if err := there(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	return nil
}

// there says why a folder of the registry can't be looked into.
func there(folder string) error {
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is not there, and the registry's keys are: put it back from where it went, or from a backup. Only where there was never a file in it, make it anew, empty", ErrGone, folder)
	} else if err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return nil
}

// open reads the hub's keys, or makes what is missing of them.
func (r *Registry) open(path, keyFile string) (err error) {
	var there, plain bool
	if r.keys, there, plain, err = readKeys(path, keyFile); err != nil {
		return err
	}
	write := plain && keyFile != ""
	if !there {
		if r.keys, err = newKeys(); err != nil {
			return err
		}
	}
	if r.keys.Authority == "" { // also of a hub that is older than its authority
		if r.keys.Authority, r.keys.AuthorityKey, err = newAuthority(time.Now()); err != nil {
			return err
		}
		write = true
	}
	if write {
		return writeKeys(path, keyFile, r.keys)
	}
	return nil
}

func newKeys() (k keys, err error) {
	for _, want := range []struct {
		seed *string
		make func() (nkeys.KeyPair, error)
	}{{&k.Operator, nkeys.CreateOperator}, {&k.System, nkeys.CreateAccount}, {&k.Plant, nkeys.CreateAccount}, {&k.Domain, nkeys.CreateAccount}, {&k.Agents, nkeys.CreateAccount}} {
		if *want.seed, err = newSeed(want.make); err != nil {
			return keys{}, err
		}
	}
	return k, nil
}

func newSeed(made func() (nkeys.KeyPair, error)) (string, error) {
	kp, err := made()
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	seed, err := kp.Seed()
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	return string(seed), nil
}

// public is the key pair of a seed and its public key.
func public(seed string) (nkeys.KeyPair, string, error) {
	kp, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return nil, "", fmt.Errorf("read a seed of the registry: %w", err)
	}
	pub, err := kp.PublicKey()
	if err != nil {
		return nil, "", fmt.Errorf("read a seed of the registry: %w", err)
	}
	return kp, pub, nil
}

// trust is all of it but the plant's account, which changes with what is revoked.
func trust(k keys) (t Trust, err error) {
	operator, operatorKey, err := public(k.Operator)
	if err != nil {
		return t, err
	}
	if _, t.SystemKey, err = public(k.System); err != nil {
		return t, err
	}
	if _, t.PlantKey, err = public(k.Plant); err != nil {
		return t, err
	}
	t.OperatorToken = jwt.NewOperatorClaims(operatorKey)
	t.OperatorToken.SystemAccount = t.SystemKey
	if t.OperatorJWT, err = t.OperatorToken.Encode(operator); err != nil {
		return t, fmt.Errorf("sign the operator: %w", err)
	}
	system := jwt.NewAccountClaims(t.SystemKey)
	system.Name = "SYS"
	if t.SystemJWT, err = system.Encode(operator); err != nil {
		return t, fmt.Errorf("sign the system account: %w", err)
	}
	if k.Domain == "" {
		return t, nil
	}
	t.DomainKey, t.DomainJWT, err = domainAccount(k.Domain, operator)
	return t, err
}

// plantAccount is the account of the edge: agents, their samples' stream and what they
// are told. The agents' permissions live in the account, so a stolen signing key can make
// agents only.
func plantAccount(key string, signers []string) *jwt.AccountClaims {
	a := jwt.NewAccountClaims(key)
	a.Name = "PLANT"
	a.Limits.JetStreamLimits = ofStreams()
	for _, signer := range signers {
		a.SigningKeys.AddScopedSigner(agentScope(signer))
	}
	return a
}

// agentScope is what an agent may whose token a key has signed.
func agentScope(signer string) *jwt.UserScope {
	scope := jwt.NewUserScope()
	scope.Key, scope.Role = signer, agentRole
	scope.Template.Pub.Allow.Add("ingest.v1.{{tag(site)}}.{{name()}}.*", "ctl.v1.{{tag(site)}}.{{name()}}.resume", "ctl.v1.{{tag(site)}}.{{name()}}.renew", "ctl.v1.{{tag(site)}}.{{name()}}.report", "ctl.v1.{{tag(site)}}.{{name()}}.configuration")
	scope.Template.Sub.Allow.Add("_INBOX.{{name()}}.>", "ctl.v1.{{tag(site)}}.{{name()}}.receipt", "ctl.v1.{{tag(site)}}.{{name()}}.refresh", "ctl.v1.{{tag(site)}}.{{name()}}.nudge")
	// 16 subscriptions: receipts, replies, and room for control to come.
	scope.Template.Subs = 16
	scope.Template.Payload = wire.MaxFrame
	return scope
}

// HubUser makes the credentials of the hub itself inside the account of the edge:
// a fresh key each time, for this process only.
func (r *Registry) HubUser() (token, seed string, err error) { return hubUser(r.keys.Plant) }

func hubUser(account string) (token, seed string, err error) {
	user, err := nkeys.CreateUser()
	if err != nil {
		return "", "", fmt.Errorf("make the hub's key: %w", err)
	}
	pub, err := user.PublicKey()
	if err != nil {
		return "", "", fmt.Errorf("make the hub's key: %w", err)
	}
	signer, _, err := public(account)
	if err != nil {
		return "", "", err
	}
	c := jwt.NewUserClaims(pub)
	c.Name = "hub"
	if token, err = c.Encode(signer); err != nil {
		return "", "", fmt.Errorf("sign the hub's user: %w", err)
	}
	b, err := user.Seed()
	if err != nil {
		return "", "", fmt.Errorf("make the hub's key: %w", err)
	}
	return token, string(b), nil
}

func checkNames(site, agent string) error {
	for what, s := range map[string]string{"site": site, "agent": agent} {
		if !enroll.Name(s) {
			return fmt.Errorf("%s name %q: %w", what, s, ErrName)
		}
	}
	return nil
}

// free is nil where a key may have a name.
func (r *Registry) free(site, name, publicKey string) error {
	if err := checkNames(site, name); err != nil {
		return err
	}
	if !nkeys.IsValidPublicUserKey(publicKey) {
		return fmt.Errorf("%q is no public key of an agent (it begins with U)", publicKey)
	}
	var v Revocation
	gone, err := readJSON(r.revocation(publicKey), &v)
	if err != nil {
		return err
	}
	have, ok, err := r.agent(site, name)
	switch {
	case err != nil:
		return err
	case gone:
		return fmt.Errorf("%s at %s: %w", name, site, ErrRevoked)
	case ok && have.PublicKey != publicKey && have.Revoked == nil:
		return fmt.Errorf("%s at %s: %w", name, site, ErrTaken)
	}
	return nil
}

// Sign is Enroll by hand: somebody brings a public key.
func (r *Registry) Sign(site, name, publicKey string, lifetime time.Duration, by Actor, now time.Time) (token string, err error) {
	if err := r.free(site, name, publicKey); err != nil {
		return "", err
	}
	have, _, err := r.agent(site, name)
	if err != nil {
		return "", err
	}
	act := Act{Actor: by, Action: "agent.enroll", Object: site + "/" + name, Before: mark(have.PublicKey), After: mark(publicKey)}
	err = r.change(act, func() (err error) {
		token, err = r.Enroll(site, name, publicKey, lifetime, now)
		return err
	})
	return token, err
}

// mark is a key as it is recorded.
func mark(publicKey string) string {
	if publicKey == "" {
		return ""
	}
	return enroll.Fingerprint(publicKey)
}

// Enroll signs an agent for a lifetime. Enrolling again with the same key renews
// it; another key under a taken name is ErrTaken, unless the key before was revoked.
func (r *Registry) Enroll(site, name, publicKey string, lifetime time.Duration, now time.Time) (token string, err error) {
	if err := r.free(site, name, publicKey); err != nil {
		return "", err
	}
	signer, signerKey, err := public(r.keys.Agents)
	if err != nil {
		return "", err
	}
	c := jwt.NewUserClaims(publicKey)
	c.Name, c.IssuerAccount = name, r.Trust.PlantKey
	c.SetScoped(true)
	c.Tags.Add("site:" + site)
	c.Expires = now.Add(lifetime).Unix()
	if token, err = c.Encode(signer); err != nil {
		return "", fmt.Errorf("sign agent %s: %w", name, err)
	}
	path := filepath.Join(r.dir, agentsFolder, site+"."+name+".json")
	return token, writeJSON(path, Agent{Site: site, Name: name, PublicKey: publicKey, Enrolled: now.UTC(), Expires: now.Add(lifetime).UTC(), Signer: signerKey})
}

// Renew signs an agent's key again, whichever it is enrolled with.
func (r *Registry) Renew(site, name string, lifetime time.Duration, now time.Time) (token string, err error) {
	if err := checkNames(site, name); err != nil {
		return "", err
	}
	have, ok, err := r.agent(site, name)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", fmt.Errorf("%s at %s: %w", name, site, ErrUnknown)
	}
	return r.Enroll(site, name, have.PublicKey, lifetime, now)
}

// File is a token as it lies in an agent's file: behind it stands the authority by which
// the agent knows its hub.
func (r *Registry) File(token string) (string, error) {
	b, err := jwt.DecorateJWT(token)
	if err != nil {
		return "", fmt.Errorf("write a token: %w", err)
	}
	return string(r.withAuthority(b)), nil
}

// Agents lists the enrolled agents by site and name.
func (r *Registry) Agents() ([]Agent, error) {
	files, err := os.ReadDir(filepath.Join(r.dir, agentsFolder))
	if err != nil {
		return nil, fmt.Errorf("%w: list agents: %w", ErrGone, err)
	}
	out := []Agent{}
	for _, f := range files {
		site, name, ok := strings.Cut(strings.TrimSuffix(f.Name(), ".json"), ".")
		if !ok || site == "" || !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		a, ok, err := r.agent(site, name)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b Agent) int { return strings.Compare(a.Site+"."+a.Name, b.Site+"."+b.Name) })
	return out, nil
}

// writeJSON writes a secret file: whole or not at all, readable by its owner.
func writeJSON(path string, v any) error { return putJSON(path, v, os.Rename) }

// createJSON writes a file that is not there yet; made is false where it is: somebody
// else was first, whichever process that is.
func createJSON(path string, v any) (made bool, err error) {
	if err = putJSON(path, v, os.Link); errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// putJSON writes a file beside its place, synced, and has it put there.
func putJSON(path string, v any, put func(from, to string) error) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, leave(f, filepath.Dir(path)), f.Sync(), f.Close()); err == nil {
		err = put(f.Name(), path)
	}
	_ = os.Remove(f.Name()) // it is in its place, or of no use
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
