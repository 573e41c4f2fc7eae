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

	mu     sync.Mutex // protects the fields below
	rules  *quality.Rules
	dec    *wire.Decoder
	tables map[mesh.Hash][]mesh.Signal
	at     mesh.Position // judged through here
	state  quality.State
	found  map[mesh.Position][]byte // sealed verdicts with marks
	stale  bool                     // state on disk is older
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
	j := &Judge{log: log, dec: dec, rules: &quality.Rules{}, tables: map[mesh.Hash][]mesh.Signal{}, found: map[mesh.Position][]byte{}}
	b, err := log.State(judgeState)
	if err != nil {
		return nil, fmt.Errorf("read the rules' state: %w", err)
	}
	if len(b) == 0 {
		return j, nil
	}
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, fmt.Errorf("read the rules' state: %w", err)
	}
	j.at = mesh.Position{Log: mesh.LogID(k.Log), Epoch: k.Epoch, Seq: k.Seq}
	j.state = k.State
	for _, v := range k.Found {
		j.found[mesh.Position{Log: j.at.Log, Epoch: v.Epoch, Seq: v.Seq}] = v.Sealed
	}
	return j, j.use(k.Rules)
}

// use makes the rules with this name those of what follows.
func (j *Judge) use(name mesh.Hash) error {
	if d := j.rules.Descriptor(); name == (mesh.Hash{}) || d.Kind != 0 && d.Hash() == name {
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
	j.rules = rules
	return nil
}

// Verdict is what the rules found in a committed record: a sealed verdict, or
// nil where they found nothing. Where much stands before it that is not judged
// yet, it judges a part of that and answers forward.ErrLater.
func (j *Judge) Verdict(_ context.Context, r mesh.Record) ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if sealed, ok := j.found[r.At]; ok || r.At == j.at || r.At.Epoch == j.at.Epoch && r.At.Seq < j.at.Seq {
		return sealed, nil
	}
	records, err := j.chunk(r.At)
	if err != nil {
		return nil, err
	}
	if j.at == r.At || len(records) == 0 { // or r is older than what is judged
		return j.found[r.At], nil
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
	records, err := j.log.Peek(j.at, judgeChunk)
	if err != nil {
		return nil, fmt.Errorf("judge after %s: %w", j.at, err)
	}
	for _, next := range records {
		if err := j.one(next); err != nil {
			return nil, err
		}
		if next.At == until {
			break
		}
	}
	return records, nil
}

func (j *Judge) one(r mesh.Record) error {
	j.at, j.stale = r.At, true
	h, err := wire.ParseHeader(r.Sealed)
	if err == nil && h.Kind == mesh.KindFact && h.About == rulesFact {
		return j.use(h.Needs[0])
	}
	if err != nil || h.Kind != mesh.KindBatch || h.Count == 0 || len(j.rules.Descriptor().Content) == 0 {
		return nil //nolint:nilerr // a damaged record is the buffer's affair; rules have nothing to say
	}
	b, err := j.dec.Batch(r.Sealed)
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	table, ok := j.tables[b.Table]
	if !ok {
		d, found := j.log.Descriptor(b.Table)
		if !found {
			return fmt.Errorf("judge %s: its signal table %s is not in the log", r.At, b.Table)
		}
		if table, err = wire.Signals(d); err != nil {
			return fmt.Errorf("judge %s: %w", r.At, err)
		}
		j.tables[b.Table] = table
	}
	v := j.rules.Judge(r.At, b, table, &j.state)
	if len(v.Marks) == 0 {
		return nil
	}
	v.Marks = bounded(v.Marks)
	sealed, err := wire.SealVerdict(b.Source, v)
	if err != nil {
		return err
	}
	j.found[r.At] = sealed
	return nil
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
	for p := range j.found {
		if accounted(p) {
			delete(j.found, p)
			j.stale = true
		}
	}
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
	size := 0
	for _, sealed := range j.found {
		size += len(sealed)
	}
	if size > maxKept {
		j.mu.Unlock()
		return nil
	}
	k := kept{Log: string(j.at.Log), Epoch: j.at.Epoch, Seq: j.at.Seq, State: j.state, Rules: j.rules.Descriptor().Hash()}
	for p, sealed := range j.found {
		k.Found = append(k.Found, keptVerdict{p.Epoch, p.Seq, sealed})
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
