package ingest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/proto/subject"
)

// errRefused is returned for a stream that can't be made what it has to be.
var errRefused = errors.New("the ingest stream is not what it has to be, and its server lets nobody change that: stop the hub and move the folder nats in its data folder away; the agents send again what is not accounted")

// wanted is what the ingest stream has to be: nothing leaves it but what was
// accounted for, and a full one refuses, so that agents go on holding.
func (g *Ingest) wanted() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: subject.IngestStream, Description: "records on their way from the agents to the hub's log",
		Subjects: []string{subject.IngestAll}, Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
		Discard: jetstream.DiscardNew, MaxBytes: g.cfg.MaxBytes, MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Replicas: g.cfg.Replicas, DenyDelete: true,
	}
}

// setting is one property of the stream that matters.
type setting struct {
	name  string
	fixed bool // nobody can change it back
	at    func(*jetstream.StreamConfig) any
}

// settings are all that matter. A limit by age or number drops what nobody has
// accounted for; a roll-up or a time to live in a message's head lets an agent
// do so; a transform, a mirror or a counter makes other messages of them;
// without acknowledgements, or with those that come before the sync, agents
// know nothing.
func settings() []setting {
	type c = *jetstream.StreamConfig
	unless := func(n int64) any { return max(n, 0) } // no limit is told as 0 or -1
	return []setting{
		{"storage", true, func(c c) any { return c.Storage }},
		{"persist_mode", true, func(c c) any { return c.PersistMode }},
		{"sealed", true, func(c c) any { return c.Sealed }},
		{"deny_purge", true, func(c c) any { return c.DenyPurge }},
		{"allow_msg_ttl", true, func(c c) any { return c.AllowMsgTTL }},
		{"allow_msg_counter", true, func(c c) any { return c.AllowMsgCounter }},
		{"allow_msg_schedules", true, func(c c) any { return c.AllowMsgSchedules }},
		{"mirror", true, func(c c) any { return c.Mirror != nil }},
		{"retention", false, func(c c) any { return c.Retention }},
		{"discard", false, func(c c) any { return c.Discard }},
		{"discard_new_per_subject", false, func(c c) any { return c.DiscardNewPerSubject }},
		{"max_bytes", false, func(c c) any { return c.MaxBytes }},
		{"max_age", false, func(c c) any { return c.MaxAge }},
		{"max_msgs", false, func(c c) any { return unless(c.MaxMsgs) }},
		{"max_msgs_per_subject", false, func(c c) any { return unless(c.MaxMsgsPerSubject) }},
		{"max_msg_size", false, func(c c) any { return unless(int64(c.MaxMsgSize)) }},
		{"max_consumers", false, func(c c) any { return unless(int64(c.MaxConsumers)) }},
		{"consumer_limits", false, func(c c) any { return c.ConsumerLimits }},
		{"subjects", false, func(c c) any { return c.Subjects }},
		{"subject_transform", false, func(c c) any { return c.SubjectTransform != nil }},
		{"republish", false, func(c c) any { return c.RePublish != nil }},
		{"sources", false, func(c c) any { return len(c.Sources) }},
		{"no_ack", false, func(c c) any { return c.NoAck }},
		{"deny_delete", false, func(c c) any { return c.DenyDelete }},
		{"allow_rollup_hdrs", false, func(c c) any { return c.AllowRollup }},
		{"num_replicas", false, func(c c) any { return c.Replicas }},
	}
}

// drift is what differs, in words; fixed is the part nobody can change.
func drift(is, want jetstream.StreamConfig) (all, fixed []string) {
	for _, s := range settings() {
		if a, b := s.at(&is), s.at(&want); !reflect.DeepEqual(a, b) {
			words := fmt.Sprintf("%s is %v, not %v", s.name, a, b)
			if all = append(all, words); s.fixed {
				fixed = append(fixed, words)
			}
		}
	}
	return all, fixed
}

// repaired is a configuration made what it has to be; what doesn't matter stays.
func repaired(is, want jetstream.StreamConfig) jetstream.StreamConfig {
	out := want
	out.Description, out.Metadata, out.Placement, out.Compression = is.Description, is.Metadata, is.Placement, is.Compression
	out.FirstSeq, out.Duplicates, out.AllowDirect, out.MirrorDirect = is.FirstSeq, is.Duplicates, is.AllowDirect, is.MirrorDirect
	out.AllowAtomicPublish, out.AllowBatchPublish = is.AllowAtomicPublish, is.AllowBatchPublish
	return out
}

// right sees that the stream is what it has to be, and sets right what somebody
// changed. What can't be set right is an error.
func (g *Ingest) right(ctx context.Context, js jetstream.JetStream, s jetstream.Stream) (jetstream.Stream, error) {
	want := g.wanted()
	is := s.CachedInfo().Config
	all, fixed := drift(is, want)
	if len(all) == 0 {
		return s, nil
	}
	g.counts.drifted.Add(1)
	if len(fixed) > 0 {
		return nil, fmt.Errorf("%w: %s", errRefused, strings.Join(fixed, ", "))
	}
	g.log.ErrorContext(ctx, "somebody changed the ingest stream so that it could lose records or stop the agents: it is set right", "what", strings.Join(all, ", "))
	s, err := js.UpdateStream(ctx, repaired(is, want))
	if err != nil {
		return nil, fmt.Errorf("set the ingest stream right (%s): %w", strings.Join(all, ", "), err)
	}
	return s, nil
}
