package registry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"plantmesh/proto/enroll"
	"plantmesh/proto/subject"
)

// MaxReaders bounds how many readers there are: each has a consumer at the stream.
const MaxReaders = 256

// What a reader's account may hold of the server: programs that read, and what each asks.
const (
	readerConns   = 16
	readerSubs    = 64
	readerPayload = 4 << 10 // it asks for the next rows, and says which it has
)

// firstYear is one before which nothing was published.
const firstYear = 1971

// Errors of readers.
var (
	// ErrReader is returned for a reader that can't be made as asked.
	ErrReader = errors.New("no reader is made")
	// ErrReaderThere is returned for a name by which somebody reads.
	ErrReaderThere = fmt.Errorf("%w: there is one of this name: plantmesh readers renew gives it other credentials, and it goes on where it is", ErrReader)
	// ErrRewind is returned for a reader that is not rewound as asked.
	ErrRewind = errors.New("the reader is not rewound")
	// ErrNoReader is returned for a reader that is not there.
	ErrNoReader = errors.New("no reader of this name may read: plantmesh readers list shows them")
)

// Reader is who may read a domain's products over NATS: a program of another domain, or of
// the maintenance team. It is alone in an account of its own, whose key nobody has: what
// it gets is what that account imports.
type Reader struct {
	Name    string    `json:"name"`
	Domain  string    `json:"domain"`  // whose products they are
	Account string    `json:"account"` // public key
	Key     string    `json:"key"`     // its own, public
	Reads   []string  `json:"reads"`   // patterns of subjects
	Added   time.Time `json:"added"`
	// Changed is when it was last given credentials, was rewound, or was revoked.
	Changed time.Time  `json:"changed"`
	Expires time.Time  `json:"expires"`
	Revoked *time.Time `json:"revoked"`
	Rewound *Rewound   `json:"rewound,omitempty"` // nil: never
	By      string     `json:"by"`
	Note    string     `json:"note,omitempty"`
}

// Rewound is from where a reader reads again.
type Rewound struct {
	At   time.Time  `json:"at"`   // when that was asked for
	From *time.Time `json:"from"` // the rows that were published then and later; nil: all
}

func (w *Rewound) String() string {
	if w.From == nil {
		return "all rows"
	}
	return "rows published since " + w.From.Format(time.RFC3339Nano)
}

// Good says whether a reader's credentials are good at a time.
func (r *Reader) Good(now time.Time) bool { return r.Revoked == nil && now.Before(r.Expires) }

// AddReader lets somebody read for a lifetime: want says its name, the domain, what it
// reads, and a note. The credentials that it gives are shown once: nobody keeps them.
func (r *Registry) AddReader(want Reader, lifetime time.Duration, by Actor, now time.Time) (Reader, string, error) {
	name := want.Name
	if !enroll.Name(name) {
		return Reader{}, "", fmt.Errorf("%w: name %q: %w", ErrReader, name, ErrName)
	}
	all, err := r.Readers()
	if err != nil {
		return Reader{}, "", err
	}
	there := 0
	for i := range all {
		switch {
		case all[i].Name == name && all[i].Revoked == nil:
			return Reader{}, "", fmt.Errorf("%s: %w", name, ErrReaderThere)
		case all[i].Revoked == nil:
			there++
		}
	}
	if there >= MaxReaders {
		return Reader{}, "", fmt.Errorf("%w: there are %d: revoke those that nobody needs", ErrReader, there)
	}
	is := Reader{Name: name, Domain: want.Domain, Reads: want.Reads, Added: now.UTC(), Note: want.Note}
	return r.readerChange("reader.add", is, "", lifetime, by, now)
}

// RenewReader gives a reader other credentials; those of before end.
func (r *Registry) RenewReader(name string, lifetime time.Duration, by Actor, now time.Time) (Reader, string, error) {
	is, err := r.reader(name)
	if err != nil {
		return Reader{}, "", err
	}
	return r.readerChange("reader.renew", is, mark(is.Key), lifetime, by, now)
}

// readerChange makes credentials and puts them on record.
func (r *Registry) readerChange(action string, is Reader, before string, lifetime time.Duration, by Actor, now time.Time) (Reader, string, error) {
	if lifetime < MinLifetime || lifetime > MaxLifetime {
		return Reader{}, "", fmt.Errorf("%w: credentials are good for %s to %s, not %s", ErrReader, MinLifetime, MaxLifetime, lifetime)
	}
	is.Changed, is.Expires, is.By = now.UTC(), now.Add(lifetime).UTC().Truncate(time.Second), by.Who
	credentials, err := r.credentials(&is)
	if err != nil {
		return Reader{}, "", err
	}
	act := Act{
		Actor: by, Action: action, Object: is.Name, Before: before, Reason: is.Note,
		After: fmt.Sprintf("%s reads %s until %s", mark(is.Key), strings.Join(is.Reads, ", "), is.Expires.Format(time.RFC3339)),
	}
	return is, credentials, r.change(act, func() error { return writeJSON(r.readerFile(is.Name), is) })
}

// credentials makes an account, and in it the only user there will ever be: the account's
// key is gone when this returns.
func (r *Registry) credentials(is *Reader) (string, error) {
	accountSeed, err := newSeed(nkeys.CreateAccount)
	if err != nil {
		return "", err
	}
	userSeed, err := newSeed(nkeys.CreateUser)
	if err != nil {
		return "", err
	}
	account, accountKey, err := public(accountSeed)
	if err != nil {
		return "", err
	}
	_, userKey, err := public(userSeed)
	if err != nil {
		return "", err
	}
	c := jwt.NewUserClaims(userKey)
	c.Name, c.Expires = is.Name, is.Expires.Unix()
	c.Pub.Allow.Add(subject.ReaderAsks(is.Domain, is.Name)...)
	c.Sub.Allow.Add("_INBOX.>")
	c.Sub.Allow.Add(is.Reads...)
	c.Subs, c.NatsLimits.Payload = readerSubs, readerPayload
	token, err := c.Encode(account)
	if err != nil {
		return "", fmt.Errorf("sign reader %s: %w", is.Name, err)
	}
	b, err := jwt.FormatUserConfig(token, []byte(userSeed))
	if err != nil {
		return "", fmt.Errorf("write the credentials of %s: %w", is.Name, err)
	}
	is.Account, is.Key = accountKey, userKey
	return string(r.withAuthority(b)), nil
}

// ReaderAccount signs a reader's account: what it imports is all that is in it. One whose
// reader may read no more lets nobody in.
func (r *Registry) ReaderAccount(is *Reader, good bool) (token string, err error) {
	operator, _, err := public(r.keys.Operator)
	if err != nil {
		return "", err
	}
	a := jwt.NewAccountClaims(is.Account)
	a.Name = "READER " + is.Name
	a.Limits.Conn, a.Limits.LeafNodeConn, a.Limits.Exports, a.Limits.WildcardExports = readerConns, 0, 0, false
	for _, s := range is.Reads {
		a.Imports.Add(&jwt.Import{Name: s, Subject: jwt.Subject(s), Account: r.Trust.DomainKey, Type: jwt.Stream})
	}
	as := subject.ReaderAsks(is.Domain, is.Name)
	for i, s := range subject.ReaderAsks("", is.Name) {
		a.Imports.Add(&jwt.Import{Name: s, Subject: jwt.Subject(s), LocalSubject: jwt.RenamingSubject(as[i]), Account: r.Trust.DomainKey, Type: jwt.Service})
	}
	if !good {
		a.RevokeAt(jwt.All, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	if token, err = a.Encode(operator); err != nil {
		return "", fmt.Errorf("sign the account of reader %s: %w", is.Name, err)
	}
	return token, nil
}

// RevokeReader ends what a reader may, for good; its name may be another's then.
func (r *Registry) RevokeReader(name, why string, by Actor, now time.Time) (Reader, error) {
	is, err := r.reader(name)
	if err != nil {
		return Reader{}, err
	}
	at := now.UTC()
	is.Revoked, is.Changed = &at, at
	act := Act{Actor: by, Action: "reader.revoke", Object: name, Before: mark(is.Key), Reason: why}
	return is, r.change(act, func() error { return writeJSON(r.readerFile(name), is) })
}

// RewindReader has a reader read again the rows that were published at an instant and
// later, or all where from is nil.
func (r *Registry) RewindReader(name string, from *time.Time, why string, by Actor, now time.Time) (Reader, error) {
	is, err := r.reader(name)
	if err != nil {
		return Reader{}, err
	}
	switch {
	case from == nil:
	case from.After(now):
		return Reader{}, fmt.Errorf("%w: %s is still to come", ErrRewind, from.Format(time.RFC3339))
	case from.Year() < firstYear: // the server may not take it, and it would have no consumer
		return Reader{}, fmt.Errorf("%w: %s is before there were hubs", ErrRewind, from.Format(time.RFC3339))
	}
	is.Rewound, is.Changed = &Rewound{At: now.UTC()}, now.UTC()
	if from != nil {
		at := from.UTC()
		is.Rewound.From = &at
	}
	act := Act{Actor: by, Action: "reader.rewind", Object: name, Before: mark(is.Key), After: is.Rewound.String(), Reason: why}
	return is, r.change(act, func() error { return writeJSON(r.readerFile(name), is) })
}

// reader is one that is not revoked.
func (r *Registry) reader(name string) (is Reader, err error) {
	if !enroll.Name(name) {
		return is, fmt.Errorf("%s: %w", name, ErrNoReader)
	}
	ok, err := readJSON(r.readerFile(name), &is)
	if err == nil && (!ok || is.Revoked != nil) {
		err = fmt.Errorf("%s: %w", name, ErrNoReader)
	}
	return is, err
}

func (r *Registry) readerFile(name string) string {
	return filepath.Join(r.dir, readersFolder, name+".json")
}

// Readers are all there were, by name: of each name the last.
func (r *Registry) Readers() ([]Reader, error) {
	files, err := os.ReadDir(filepath.Join(r.dir, readersFolder))
	if err != nil {
		return nil, fmt.Errorf("list readers: %w", err)
	}
	out := []Reader{}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok || !enroll.Name(name) {
			continue
		}
		var is Reader
		if ok, err := readJSON(r.readerFile(name), &is); err != nil || !ok {
			return nil, errors.Join(err)
		}
		out = append(out, is)
	}
	slices.SortFunc(out, func(a, b Reader) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// takeReaders takes over what was decided on readers since.
func (r *Registry) takeReaders(older *Registry) (n int, err error) {
	all, err := older.Readers()
	if err != nil {
		return 0, err
	}
	for i := range all {
		var have Reader
		ok, err := readJSON(r.readerFile(all[i].Name), &have)
		if err == nil && (!ok || have.Changed.Before(all[i].Changed)) {
			n++
			err = writeJSON(r.readerFile(all[i].Name), all[i])
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
