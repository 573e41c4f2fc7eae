package sim

import (
	"context"
	"errors"
	"hash/maphash"
	"strconv"
	"strings"

	"plantmesh/cloud/port/stream"
)

var errPublish = errors.New("the product stream did not answer")

// consumer is a model of the product stream and of who reads it: what is there
// stays, by id.
type consumer struct {
	w      *world
	luck   luck
	got    map[string]uint64 // by id: a hash of the data
	order  []string          // ids as they came first
	failIn int               // messages from now
	stored bool              // the one that fails is stored all the same
	other  int               // an id came with two contents
}

func seedOf() maphash.Seed { return hashSeed }

var hashSeed = maphash.MakeSeed()

// Publish implements stream.Publisher.
func (c *consumer) Publish(_ context.Context, messages []stream.Message) (int, error) {
	for i, m := range messages {
		fails := false
		if c.failIn > 0 {
			c.failIn--
			fails = c.failIn == 0
		}
		if !fails || c.stored {
			c.take(m)
		}
		if fails {
			return i, errPublish
		}
	}
	return len(messages), nil
}

func (c *consumer) take(m stream.Message) {
	h := maphash.Bytes(seedOf(), m.Data)
	if was, ok := c.got[m.ID]; ok {
		if was != h {
			c.other++
		}
		return
	}
	c.got[m.ID] = h
	c.order = append(c.order, m.ID)
}

// disorder counts ids that came first behind later ones of their epoch.
func (c *consumer) disorder() (n int) {
	highest := map[string]uint64{}
	for _, id := range c.order {
		i := strings.LastIndexByte(id, '/')
		seq, err := strconv.ParseUint(id[i+1:], 10, 64)
		if err != nil || seq < highest[id[:i]] {
			n++
			continue
		}
		highest[id[:i]] = seq
	}
	return n
}
