package torture

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/registry"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

func quoted(s string) string { return strconv.Quote(s) }

func (r *rig) read(name string) string {
	r.Helper()
	b, err := os.ReadFile(r.path(name))
	if err != nil {
		r.Fatal(err)
	}
	return string(b)
}

// copyTree copies a folder of files.
func copyTree(x *trial, from, to string) {
	x.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		x.Fatal(err)
	}
}

// replace makes a folder's content that of another.
func replace(x *trial, from, to string) {
	x.Helper()
	entries, err := os.ReadDir(to)
	if err != nil {
		x.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(to, e.Name())); err != nil {
			x.Fatal(err)
		}
	}
	copyTree(x, from, to)
}

// operator is a connection with all rights in the plant's account.
func (r *rig) operator() (*nats.Conn, jetstream.JetStream) {
	r.Helper()
	reg, err := registry.Open(filepath.Join(r.hubData, "registry"))
	if err != nil {
		r.Fatal(err)
	}
	token, seed, err := reg.HubUser()
	if err != nil {
		r.Fatal(err)
	}
	callers, err := reg.Callers()
	if err != nil {
		r.Fatal(err)
	}
	nc, err := nats.Connect("nats://"+r.nats, nats.UserJWTAndSeed(token, seed), nats.Name("operator"), nats.Secure(callers))
	if err != nil {
		r.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		r.Fatal(err)
	}
	return nc, js
}

// publishes counts what agents publish from now on, as the hub's server sees it: on the
// way it is TLS.
func (r *rig) publishes() (count func() int64, end func()) {
	r.Helper()
	nc, _ := r.operator()
	var n atomic.Int64
	_, err := nc.Subscribe(subject.IngestAll, func(m *nats.Msg) {
		if !subject.ParseCanary(m.Subject) {
			n.Add(1)
		}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		r.Fatal(err)
	}
	return n.Load, nc.Close
}

func (r *rig) call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), 10*time.Second)
}

// deleteStream is what an operator does by mistake.
func (r *rig) deleteStream() {
	r.Helper()
	nc, js := r.operator()
	defer nc.Close()
	ctx, cancel := r.call()
	defer cancel()
	if err := js.DeleteStream(ctx, subject.IngestStream); err != nil {
		r.Fatal(err)
	}
}

// stream is how the ingest stream stands.
func (r *rig) stream() (created time.Time, last uint64, messages uint64) {
	r.Helper()
	nc, js := r.operator()
	defer nc.Close()
	ctx, cancel := r.call()
	defer cancel()
	s, err := js.Stream(ctx, subject.IngestStream)
	if err != nil {
		r.Fatalf("look at the ingest stream: %v", err)
	}
	i := s.CachedInfo()
	return i.Created, i.State.LastSeq, i.State.Msgs
}

// status is what the agent says of itself.
type status struct {
	Hub struct {
		Connected bool   `json:"connected"`
		LastError string `json:"last_error"`
	} `json:"hub"`
	Buffer struct {
		Bytes         int64  `json:"bytes"`
		Segments      int    `json:"segments"`
		Pending       int64  `json:"pending_records"`
		OldestPending string `json:"oldest_pending"`
	} `json:"buffer"`
	Sources []source `json:"sources"`
}

// source is one of the agent's.
type source struct {
	State string `json:"state"`
}

// status asks the agent; false: it does not answer.
func (r *rig) status() (s status, ok bool) {
	out, err := asked(r.edge.path, "status", "--json", "--config", r.path("edge/edge.yaml"))
	if err != nil {
		return s, false
	}
	var answer struct{ Data status }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		r.Errorf("the agent's status: %v: %s", err, out)
		return s, false
	}
	return answer.Data, true
}

// untilNil tries again for a while.
func (x *trial) untilNil(what string, try func() error) {
	x.Helper()
	var err error
	for range 5000 {
		if err = try(); err == nil {
			return
		}
		pause(time.Millisecond)
	}
	x.Fatalf("%s: %v", what, err)
}

// copies counts the samples that stand more than once in the hub's own log. The
// product shows each once all the same; nothing on the way may rest on that.
func (r *rig) copies() (n int) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	s, err := store.OpenReading(ctx, filepath.Join(r.hubData, "hub.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		r.Fatal(err)
	}
	defer s.Close()
	dec, err := wire.NewDecoder()
	if err != nil {
		r.Fatal(err)
	}
	type key struct {
		source string
		signal uint32
		at     mesh.Nanos
		value  uint64
	}
	seen := map[key]bool{}
	for after := (mesh.Position{}); ; {
		entries, err := s.Peek(ctx, 0, after, 500)
		if err != nil {
			r.Fatal(err)
		}
		if len(entries) == 0 {
			return n
		}
		after = entries[len(entries)-1].At
		for _, e := range entries {
			if e.Header.Kind != mesh.KindBatch || len(e.Sealed) == 0 {
				continue
			}
			b, err := dec.Batch(e.Sealed)
			if err != nil {
				r.Fatal(err)
			}
			for _, x := range b.Samples {
				k := key{e.Header.About, x.Signal, x.Time, x.Value.Bits}
				if seen[k] && x.Status.IsGood() {
					n++
				}
				seen[k] = true
			}
		}
	}
}
