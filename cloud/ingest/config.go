package ingest

import (
	"time"

	"plantmesh/proto/wire"
)

// Config of an ingest. Zero fields mean the defaults.
type Config struct {
	Partition    int           // of the hub's log
	MaxBytes     int64         // of the stream; a full one pushes back on the agents; default 4 GiB
	MaxMessage   uint32        // told to agents in receipts; default wire.MaxFrame, less where the server takes less
	ReceiptEvery time.Duration // receipts are repeated this often, as any may be lost; default 5 s
	PurgeEvery   time.Duration // what is stored is purged from the stream this often; default 10 s
	AssertEvery  time.Duration // the stream's configuration is looked at this often; default 1 min
	Replicas     int           // of the stream; default 1
	RetryFirst   time.Duration // first wait after an error, doubled up to RetryMost; default 200 ms
	RetryMost    time.Duration // default 10 s
	// ForkAfter is how long a log's branch must be silent before one that forks
	// it is taken for a disk that was put back, not for a clone; default 5 min.
	ForkAfter time.Duration

	// Now is the machine clock; default time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 4 << 30
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = wire.MaxFrame
	}
	set(&c.ReceiptEvery, 5*time.Second)
	set(&c.PurgeEvery, 10*time.Second)
	set(&c.AssertEvery, time.Minute)
	c.Replicas = max(c.Replicas, 1)
	set(&c.ForkAfter, 5*time.Minute)
	set(&c.RetryFirst, 200*time.Millisecond)
	set(&c.RetryMost, 10*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}
