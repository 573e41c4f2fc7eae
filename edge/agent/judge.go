package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"plantmesh/edge/forward"
	"plantmesh/edge/quality"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// judgeState is where the agent's log keeps what judging remembers.
const judgeState = "@rules"

// judgeChunk bounds what is judged at once, while nothing else can ask: on a
// busy machine 5 MiB of log took 3.7 s, so this is a fifth of a second.
const judgeChunk = 256 << 10

const (
	// maxVerdict bounds one verdict: with its record and their signal table it
	// has to fit into one message to the hub, which takes 8 MiB.
	maxVerdict = 4 << 20
	// markBytes is what a mark takes beside its rule's name, at most.
	markBytes = 16
	// maxKept bounds the verdicts kept with the rules' state. The state is written
	// anew each time and stands in every segment of the log.
	maxKept = 256 << 10
)

// JudgeLog is the agent's log as judging needs it. Safe for concurrent use; what
// Append has returned is durable.
type JudgeLog interface {
	Peek(after mesh.Position, maxBytes int) ([]mesh.Record, error)
	Append(ctx context.Context, offers []mesh.Offer) ([]mesh.Position, error)
	State(source string) ([]byte, error)
	Descriptor(hash mesh.Hash) (mesh.Descriptor, bool)
}

// Judge lets the rules look at every batch once, in log order, after it was
// committed and apart from sending. The rules are those of the newest fact
// before the batch in the same log, so that verdicts are a function of the
// log. What it found of records not yet accounted for is kept with the rules'
// state, so a resend carries the same verdict.
//
// Safe for concurrent use.
type Judge struct {
	log JudgeLog

	mu      sync.Mutex // protects the fields below
	dec     *wire.Decoder
	tables  map[mesh.Hash][]mesh.Signal
	now     view     // judged through here
	found   verdicts // those with marks, sealed
	stale   bool     // state on disk is older
	counted findings
}

// kept is the judge's state as bytes.
type kept struct {
	Rules mesh.Hash     `json:"rules"`
	Log   string        `json:"log"`
	Epoch mesh.Epoch    `json:"epoch"`
	Seq   uint64        `json:"seq"`
	State quality.State `json:"state"`
	Found []keptVerdict `json:"found,omitempty"`
}

type keptVerdict struct {
	Epoch  mesh.Epoch `json:"epoch"`
	Seq    uint64     `json:"seq"`
	Sealed []byte     `json:"sealed"`
}

// NewJudge takes up judging where the log says it was left.
func NewJudge(log JudgeLog) (*Judge, error) {
	dec, err := wire.NewDecoder()
	if err != nil {
		return nil, err
	}
	j := &Judge{log: log, dec: dec, tables: map[mesh.Hash][]mesh.Signal{}, now: view{rules: &quality.Rules{}}, found: verdicts{most: maxFound, each: maxStretch}}
	b, err := log.State(judgeState)
	if err != nil {
		return nil, fmt.Errorf("read the rules' state: %w", err)
	}
	if len(b) == 0 {
		j.found.begin(j.now, nil)
		return j, nil
	}
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, fmt.Errorf("read the rules' state: %w", err)
	}
	j.now.at = mesh.Position{Log: mesh.LogID(k.Log), Epoch: k.Epoch, Seq: k.Seq}
	j.now.state = k.State
	if err := j.use(&j.now, k.Rules); err != nil {
		return nil, err
	}
	found := map[mesh.Position][]byte{}
	for _, v := range k.Found {
		found[mesh.Position{Log: j.now.at.Log, Epoch: v.Epoch, Seq: v.Seq}] = v.Sealed
	}
	j.found.begin(j.now, found)
	return j, nil
}

// Rules is the rule set by which is judged now.
func (j *Judge) Rules() mesh.Descriptor {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.now.rules.Descriptor()
}

// use makes the rules with this name those of what follows v.
func (j *Judge) use(v *view, name mesh.Hash) error {
	if d := v.rules.Descriptor(); name == (mesh.Hash{}) || d.Kind != 0 && d.Hash() == name {
		return nil
	}
	d, ok := j.log.Descriptor(name)
	if !ok {
		return fmt.Errorf("the rules %s are not in the log any more", name)
	}
	rules, err := quality.Open(d)
	if err != nil {
		return err
	}
	v.rules = rules
	return nil
}

// Verdict is what the rules found in a committed record: a sealed verdict, or
// nil where they found nothing. Where much stands before it that is not judged
// yet, it judges a part of that and answers forward.ErrLater.
func (j *Judge) Verdict(_ context.Context, r mesh.Record) ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s := j.found.holder(r.At); s != nil {
		if !s.gone {
			return s.found[r.At], nil
		}
		return j.again(s, r.At)
	}
	records, err := j.chunk(r.At)
	if err != nil {
		return nil, err
	}
	if s := j.found.holder(r.At); s != nil && !s.gone {
		return s.found[r.At], nil
	}
	if len(records) == 0 { // r is older than what is judged
		return nil, nil
	}
	return nil, forward.ErrLater
}

// again judges a part of a stretch once more, and answers as Verdict does.
func (j *Judge) again(s *stretch, of mesh.Position) ([]byte, error) {
	if s.again == nil {
		v := s.before.clone()
		s.again, s.found, s.size = &v, map[mesh.Position][]byte{}, 0
	}
	if at := s.again.at; !at.IsZero() && j.found.before(of, at) {
		return s.found[of], nil
	}
	records, err := j.log.Peek(s.again.at, judgeChunk)
	if err != nil {
		return nil, fmt.Errorf("judge once more after %s: %w", s.again.at, err)
	}
	end := len(records) == 0
	for _, next := range records {
		if end = !j.found.before(next.At, s.last); end {
			break
		}
		sealed, err := j.one(s.again, next)
		if err != nil { // as the first time, when it was told
			sealed = nil
		}
		s.note(next.At, sealed)
		if end = next.At == s.last; end || s.size >= j.found.each {
			break
		}
	}
	through := s.again.at
	j.found.redone(s, end)
	if end || j.found.before(of, through) {
		return s.found[of], nil
	}
	return nil, forward.ErrLater
}

// Catch judges a part of what is not judged yet; worked is false where nothing
// was left.
func (j *Judge) Catch() (worked bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	records, err := j.chunk(mesh.Position{})
	return len(records) > 0, err
}

// chunk judges records behind the last one, through until if it is among them.
func (j *Judge) chunk(until mesh.Position) ([]mesh.Record, error) {
	records, err := j.log.Peek(j.now.at, judgeChunk)
	if err != nil {
		return nil, fmt.Errorf("judge after %s: %w", j.now.at, err)
	}
	for _, next := range records {
		sealed, err := j.one(&j.now, next)
		j.stale = true
		j.found.add(j.now, sealed)
		if err != nil {
			return nil, err
		}
		if next.At == until {
			break
		}
	}
	return records, nil
}

// one judges the record behind v, and moves v on; nil: nothing was found.
func (j *Judge) one(v *view, r mesh.Record) (sealed []byte, err error) {
	v.at = r.At
	h, err := wire.ParseHeader(r.Sealed)
	if err == nil && h.Kind == mesh.KindFact && h.About == rulesFact {
		return nil, j.use(v, h.Needs[0])
	}
	if err != nil || h.Kind != mesh.KindBatch || h.Count == 0 || len(v.rules.Descriptor().Content) == 0 {
		return nil, nil //nolint:nilerr // a damaged record is the buffer's affair; rules have nothing to say
	}
	b, err := j.dec.Batch(r.Sealed)
	if err != nil {
		return nil, nil //nolint:nilerr // as above
	}
	table, ok := j.tables[b.Table]
	if !ok {
		d, found := j.log.Descriptor(b.Table)
		if !found {
			return nil, fmt.Errorf("judge %s: its signal table %s is not in the log", r.At, b.Table)
		}
		if table, err = wire.Signals(d); err != nil {
			return nil, fmt.Errorf("judge %s: %w", r.At, err)
		}
		j.tables[b.Table] = table
	}
	found := v.rules.Judge(r.At, b, table, &v.state)
	if len(found.Marks) == 0 {
		return nil, nil
	}
	if v == &j.now { // else it was counted the first time
		j.counted.add(&b, table, found.Marks)
	}
	found.Marks = bounded(found.Marks)
	return wire.SealVerdict(b.Source, found)
}

// bounded is what of the marks fits into one verdict. Those that quarantine go
// first, because the products count by them.
func bounded(marks []mesh.Mark) []mesh.Mark {
	size := 0
	for _, m := range marks {
		size += markBytes + len(m.Rule)
	}
	if size <= maxVerdict {
		return marks
	}
	slices.SortStableFunc(marks, func(x, y mesh.Mark) int { return rank(x) - rank(y) })
	size = 0
	for i, m := range marks {
		if size += markBytes + len(m.Rule); size > maxVerdict {
			return marks[:i]
		}
	}
	return marks
}

func rank(m mesh.Mark) int {
	if m.Action == mesh.ActionQuarantine {
		return 0
	}
	return 1
}

// Forget drops what was found of records the hub has accounted for.
func (j *Judge) Forget(accounted func(mesh.Position) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stale = j.found.forget(accounted) || j.stale
}

// Keep writes the state into the log, if it moved. While the hub has yet to
// account for many verdicts, after an outage, the state before stays: a restart
// judges again from there, and finds the same.
func (j *Judge) Keep(ctx context.Context) error {
	j.mu.Lock()
	if !j.stale {
		j.mu.Unlock()
		return nil
	}
	k := kept{Log: string(j.now.at.Log), Epoch: j.now.at.Epoch, Seq: j.now.at.Seq, State: j.now.state, Rules: j.now.rules.Descriptor().Hash()}
	whole := j.found.size() <= maxKept && j.found.kept(func(p mesh.Position, sealed []byte) {
		k.Found = append(k.Found, keptVerdict{p.Epoch, p.Seq, sealed})
	})
	if !whole {
		j.mu.Unlock()
		return nil
	}
	b, err := json.Marshal(k)
	j.stale = false
	j.mu.Unlock()
	if err != nil {
		return fmt.Errorf("keep the rules' state: %w", err)
	}
	_, err = j.log.Append(ctx, []mesh.Offer{{Source: judgeState, State: b}})
	return err
}
