package buffer

import (
	"errors"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// Policy says what happens when the budget is used up.
type Policy string

// Policies of a full buffer.
const (
	// PolicyBlock takes nothing more, so sources stop acknowledging to their
	// devices, which hold the data: right for OPC UA and MQTT QoS 1.
	PolicyBlock Policy = "block"
	// PolicyDropOldest lets the oldest segment go and marks it with a void.
	PolicyDropOldest Policy = "drop_oldest"
	// PolicyThin lets segments between go, each with a void: of an outage that
	// lasts longer than the buffer, stretches from all of it stay.
	PolicyThin Policy = "thin"
)

// Bounds of the sizes, see Config.
const (
	defaultMaxBytes = 4 << 30
	defaultKeep     = 24 * time.Hour
	maxSegment      = 64 << 20 // a damaged segment loses no more than this
	minSegment      = 1 << 20
	freeShare       = 20      // the default of min_free is one in so many
	freeAtMost      = 1 << 30 // and no more than this
	segmentsAtLeast = 8       // so that dropping one gives back at most an eighth
)

// maxSealed bounds one record: with its envelope it fits into one NATS message
// of the default 1 MiB.
const maxSealed = 900 << 10

// Config is the buffer's part of edge.yaml.
type Config struct {
	// Dir holds the segments. One agent uses it at a time.
	Dir string `yaml:"dir"`
	// MaxBytes is the budget on disk; default 4GiB, at least 8MiB.
	MaxBytes strict.Size `yaml:"max_bytes"`
	// SegmentBytes is the size of one file; default 64MiB, at least 1MiB, at
	// most an eighth of max_bytes.
	SegmentBytes strict.Size `yaml:"segment_bytes"`
	// MinFree is what must stay free on the file system for others; 0: not
	// looked at. Default: 5 % of it, at most 1GiB. (5 % is what mke2fs holds back
	// for root so that a full disk does not stop the daemons; systemd-journald
	// caps its 15 % in the same way, at 4 GiB.) Beside max_bytes one segment_bytes
	// is held back as a reserve, for what the agent itself must say on a full disk.
	MinFree *strict.Size `yaml:"min_free"`
	// Keep is how long received records stay, so that a hub restored from a
	// backup gets them again: at least the hub's backup interval; default 24h.
	// They go earlier when half of max_bytes is in use.
	Keep *strict.Duration `yaml:"keep"`
	// Policy is block (default), drop_oldest or thin.
	Policy Policy `yaml:"policy"`

	// Log is the log's name, given by the root.
	Log mesh.LogID `yaml:"-"`
	// Now is the machine clock; nil: time.Now.
	Now func() time.Time `yaml:"-"`
}

// Validate fills defaults and says what is wrong.
func (c *Config) Validate() error {
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = min(maxSegment, max(minSegment, c.MaxBytes/segmentsAtLeast))
	}
	if c.Keep == nil {
		keep := strict.Duration(defaultKeep)
		c.Keep = &keep
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Policy == "" {
		c.Policy = PolicyBlock
	}
	switch {
	case c.Dir == "":
		return strict.At("dir", "buffer.dir is empty: name a directory on a disk that survives a power cut")
	case c.Log == "":
		return errors.New("the buffer's log has no name")
	case c.MaxBytes < segmentsAtLeast*minSegment:
		return strict.At("max_bytes", "buffer.max_bytes is too small: at least 8MiB")
	case c.SegmentBytes < minSegment:
		return strict.At("segment_bytes", "buffer.segment_bytes is too small: at least 1MiB")
	case c.SegmentBytes > c.MaxBytes/segmentsAtLeast:
		return strict.At("segment_bytes", "buffer.segment_bytes is too large: at most an eighth of buffer.max_bytes")
	case c.Policy != PolicyBlock && c.Policy != PolicyDropOldest && c.Policy != PolicyThin:
		return strict.At("policy", "buffer.policy %q is none of block, drop_oldest and thin", c.Policy)
	}
	return nil
}
