// Package revision is a gateway's configuration as its hub wants it: numbered sets of files
// of sources.d and rules.d, how they go to the gateway, and what it says of them. Never
// edge.yaml: who a gateway is, where it sends and what it keeps is its own.
package revision

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of a revision.
const (
	// MaxFiles and MaxBytes bound the files of a revision, and their contents in all.
	MaxFiles = 256
	MaxBytes = 1 << 20
	// MaxText bounds a note, a reason and a name, in bytes.
	MaxText = 300
	// Every is how often an agent asks which revision its hub wants; also at once when it
	// is connected, or told to.
	Every = time.Minute

	maxAnswer  = 8 * MaxBytes // JSON may take six bytes for one
	maxAsk     = 1 << 10
	maxDrifted = 8
)

// The folders whose files a revision has.
const (
	SourcesFolder = "sources.d"
	RulesFolder   = "rules.d"
)

// ErrRevision is returned for what is no revision, and for bytes that say none.
var ErrRevision = errors.New("this is no revision")

// Ref names a revision: two of one number differ in their sums. The zero Ref is none: the
// gateway's own files alone.
type Ref struct {
	Number uint64 `json:"revision"`
	Sum    string `json:"sha256,omitempty"` // hexadecimal, of Files.Sum
}

// IsZero says whether it names none.
func (r Ref) IsZero() bool { return r == Ref{} }

func (r Ref) String() string {
	if r.Number == 0 {
		return "no revision"
	}
	return fmt.Sprintf("revision %d", r.Number)
}

// Files are contents by name, as sources.d/press.yaml.
type Files map[string]string

// names: one element below one of the two folders. No letter of it can lead elsewhere.
const names = `^(sources\.d|rules\.d)/[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\.yaml$`

const maxName = 120

// Check says what keeps files from being a revision. What they say is the gateway's to judge.
func (f Files) Check() error {
	if len(f) > MaxFiles {
		return fmt.Errorf("%w: it has %d files, at most %d", ErrRevision, len(f), MaxFiles)
	}
	total, name := 0, regexp.MustCompile(names)
	for _, at := range f.Names() {
		switch {
		case len(at) > maxName || !name.MatchString(at):
			return fmt.Errorf("%w: %q is no sources.d/NAME.yaml or rules.d/NAME.yaml, with letters, digits, '.', '-' and '_'", ErrRevision, at)
		case !utf8.ValidString(f[at]) || strings.ContainsRune(f[at], 0):
			return fmt.Errorf("%w: %s is no text in UTF-8", ErrRevision, at)
		}
		total += len(f[at])
	}
	if total > MaxBytes {
		return fmt.Errorf("%w: its files have %d bytes, at most %d", ErrRevision, total, MaxBytes)
	}
	return nil
}

// Names are the files' names, sorted.
func (f Files) Names() []string { return slices.Sorted(maps.Keys(f)) }

// Sum is the SHA-256 of all of it in hexadecimal: of each file in the order of names, the
// length of the name as eight bytes little endian, the name, and the content likewise.
func (f Files) Sum() string {
	h := sha256.New()
	for _, at := range f.Names() {
		for _, text := range []string{at, f[at]} {
			h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text))))
			h.Write([]byte(text))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Revision is one configuration of one agent.
type Revision struct {
	Ref

	At    time.Time `json:"at"`
	By    string    `json:"by"`
	Note  string    `json:"note,omitempty"`
	Files Files     `json:"files,omitempty"`
}

// Check says what is wrong with a revision: a bound, or a sum that is another's.
func (r *Revision) Check() error {
	if err := r.Files.Check(); err != nil {
		return err
	}
	switch {
	case r.Number == 0:
		return fmt.Errorf("%w: it has no number", ErrRevision)
	case r.Sum != r.Files.Sum():
		return fmt.Errorf("%w: revision %d is not what its sha256 says", ErrRevision, r.Number)
	case !plain(r.By) || !plain(r.Note):
		return fmt.Errorf("%w: who made it, or what for, is longer than %d bytes or no plain text", ErrRevision, MaxText)
	}
	return nil
}

// State is how a gateway's configuration stands, as the gateway says it.
type State string

// The states.
const (
	Current  State = "current"  // the revision it was told of is in force
	Pending  State = "pending"  // not yet
	Trial    State = "trial"    // in force, and not yet confirmed
	Reverted State = "reverted" // it did not do, and the one of before is in force
	Rejected State = "rejected" // it can't be read, and was never in force
	Drift    State = "drift"    // in force, but for files of the gateway's own that go before it
	Held     State = "held"     // somebody at the gateway lets no revision come into force
)

// InSync is Current as a hub says it, where the revision is its newest.
const InSync State = "in_sync"

// Hold is that no revision comes into force, and why.
type Hold struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero: until it is released
}

// Active says whether it is one at an instant.
func (h *Hold) Active(now time.Time) bool {
	return h != nil && (h.Until.IsZero() || now.Before(h.Until))
}

// Reported is what a gateway says of its configuration.
type Reported struct {
	Ref // in force

	Applied time.Time `json:"applied,omitzero"` // when it came into force
	Desired uint64    `json:"desired"`          // the newest it was told of; 0: none
	State   State     `json:"state"`
	Why     string    `json:"why,omitempty"`   // in words
	Drift   []string  `json:"drift,omitempty"` // files of the gateway's own that go before the revision's, the first of them
	Hold    *Hold     `json:"hold,omitempty"`
}

// Bounded is what of it fits into a report.
func (r *Reported) Bounded() Reported {
	out := *r
	out.Why = Plain(r.Why)
	out.Drift = r.Drift[:min(len(r.Drift), maxDrifted)]
	if r.Hold != nil {
		h := *r.Hold
		h.Reason = Plain(h.Reason)
		out.Hold = &h
	}
	return out
}

// Check says what makes no sense of what came.
func (r *Reported) Check() error {
	odd := !slices.Contains([]State{Current, Pending, Trial, Reverted, Rejected, Drift, Held}, r.State) || len(r.Sum) > 2*sha256.Size || !plain(r.Sum) || !plain(r.Why) ||
		len(r.Drift) > maxDrifted || slices.ContainsFunc(r.Drift, func(at string) bool { return len(at) > maxName || !plain(at) }) || r.Hold != nil && !plain(r.Hold.Reason)
	if odd {
		return fmt.Errorf("%w: what a gateway says of it makes no sense", ErrRevision)
	}
	return nil
}

// Sync is how a gateway's configuration stands beside the newest revision of its hub; empty:
// the hub has none for it. nil: the gateway has said nothing of it.
func Sync(newest Ref, r *Reported) State {
	switch {
	case newest.IsZero() && (r == nil || r.Number == 0):
		return ""
	case r == nil:
		return Pending
	case r.Hold != nil:
		return Held
	case r.Ref == newest && r.State == Current:
		return InSync
	case r.Ref == newest, r.Desired == newest.Number && r.State != Current:
		return r.State
	}
	return Pending
}

// Ask is what an agent asks its hub with: what it has, so that this is not sent again.
type Ask struct {
	Has Ref `json:"has"`
}

// Answer is what a hub wants of an agent.
type Answer struct {
	Desired  Ref       `json:"desired"`                 // zero: nothing
	Revision *Revision `json:"configuration,omitempty"` // absent where the agent has it
}

// ReadAsk reads and bounds what an agent asks with.
func ReadAsk(b []byte) (a Ask, err error) {
	if len(b) > maxAsk {
		return a, fmt.Errorf("%w: a question of %d bytes", ErrRevision, len(b))
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("%w: %w", ErrRevision, err)
	}
	return a, nil
}

// Encode is an answer as it is sent: JSON, compressed.
func (a Answer) Encode() ([]byte, error) {
	b, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("write a revision: %w", err)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err = w.Write(b)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("compress a revision: %w", err)
	}
	return out.Bytes(), nil
}

// ReadAnswer reads what Encode wrote, and checks the revision in it.
func ReadAnswer(b []byte) (a Answer, err error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrRevision, err)
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxAnswer+1))
	if err == nil && len(plain) > maxAnswer {
		err = fmt.Errorf("more than %d bytes", maxAnswer)
	}
	if err == nil {
		err = json.Unmarshal(plain, &a)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrRevision, err)
	}
	if r := a.Revision; r != nil {
		if err := r.Check(); err != nil {
			return Answer{}, err
		}
		if r.Ref != a.Desired {
			return Answer{}, fmt.Errorf("%w: %s came for %s", ErrRevision, r.Ref, a.Desired)
		}
	}
	return a, nil
}

// Change is one file that two revisions don't have alike.
type Change struct {
	Name string `json:"file"`
	What string `json:"what"` // added, removed, changed
	Text string `json:"diff"` // its lines: "-" before one that goes, "+" before one that comes
}

// Diff is what becomes of the files was where they become is.
func Diff(was, is Files) (out []Change) {
	all := maps.Clone(was)
	if all == nil {
		all = Files{}
	}
	maps.Copy(all, is)
	for _, at := range all.Names() {
		before, had := was[at]
		after, has := is[at]
		c := Change{Name: at, What: "changed", Text: lines(before, after)}
		switch {
		case had && has && before == after:
			continue
		case !had:
			c.What = "added"
		case !has:
			c.What = "removed"
		}
		out = append(out, c)
	}
	return out
}

// mostLines bounds the lines of which each is held against each.
const mostLines = 2000

// lines is the difference of two texts, without the lines that both have.
func lines(before, after string) string {
	a, b := split(before), split(after)
	var head int
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}
	a, b = a[head:], b[head:]
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	var out strings.Builder
	if len(a)*len(b) > mostLines*mostLines {
		return fmt.Sprintf("@@ from line %d: %d lines become %d\n", head+1, len(a), len(b))
	}
	tell(&out, head, a, b)
	return out.String()
}

// tell writes by the longest run of lines that both have.
func tell(out *strings.Builder, head int, a, b []string) {
	long := make([][]int32, len(a)+1)
	for i := range long {
		long[i] = make([]int32, len(b)+1)
	}
	for i, line := range slices.Backward(a) {
		for k := len(b) - 1; k >= 0; k-- {
			if line == b[k] {
				long[i][k] = long[i+1][k+1] + 1
			} else {
				long[i][k] = max(long[i+1][k], long[i][k+1])
			}
		}
	}
	i, k, apart := 0, 0, true
	for i < len(a) || k < len(b) {
		if i < len(a) && k < len(b) && a[i] == b[k] {
			i, k, apart = i+1, k+1, true
			continue
		}
		if apart {
			fmt.Fprintf(out, "@@ line %d\n", head+i+1)
			apart = false
		}
		if k == len(b) || i < len(a) && long[i+1][k] >= long[i][k+1] {
			out.WriteString("-" + a[i] + "\n")
			i++
		} else {
			out.WriteString("+" + b[k] + "\n")
			k++
		}
	}
}

func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// Plain is a text in one line, bounded, with nothing in it that a terminal obeys.
func Plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > MaxText {
		const more = "…"
		s = strings.ToValidUTF8(s[:MaxText-len(more)], "") + more
	}
	return s
}

func plain(s string) bool { return len(s) <= MaxText && s == Plain(s) }
