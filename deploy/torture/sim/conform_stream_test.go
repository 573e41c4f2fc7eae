package sim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/ingest"
	"plantmesh/edge/forward"
	"plantmesh/proto/subject"
)

// pipe is the stream as both ends use it.
type pipe interface {
	// link is the agent's way to it.
	link() forward.Link
	// read gives what is there behind a sequence, and the newest sequence.
	read(behind uint64) (got []string, last uint64)
	broken
}

// broken is what becomes of it.
type broken interface {
	// renew deletes it and makes it anew: another says that it is another then.
	renew() (another bool)
	// purge takes away what is at or before a sequence.
	purge(through uint64)
	// restart stops and starts the broker: with nothing lost, or as it was at
	// the last backup.
	restart(restored bool) (same bool)
	backup()
}

type modelPipe struct {
	s, kept *broker
	u       *uplink
}

func newModelPipe(*testing.T) pipe {
	s := newBroker(&world{})
	return &modelPipe{s: s, u: &uplink{s: s, up: true}}
}

func (p *modelPipe) link() forward.Link { return p.u }

func (p *modelPipe) renew() bool {
	was := p.s.id
	p.s.renew()
	return was != p.s.id
}

func (p *modelPipe) read(behind uint64) (got []string, last uint64) {
	for _, m := range p.s.from(behind, 1000) {
		got = append(got, fmt.Sprintf("%d %s %s", m.Place.Seq, m.Subject, m.Data))
	}
	return got, p.s.seq
}

func (p *modelPipe) purge(through uint64) {
	p.s.msgs = slices.DeleteFunc(slices.Clone(p.s.msgs), func(m ingest.Message) bool { return m.Place.Seq <= through })
}

func (p *modelPipe) backup() {
	c := *p.s
	c.msgs = slices.Clone(c.msgs)
	p.kept = &c
}

// restart: what goes back in the simulation loses its newest messages.
func (p *modelPipe) restart(restored bool) bool {
	if !restored || p.kept == nil || p.kept.id != p.s.id {
		return true
	}
	n := slices.IndexFunc(p.s.msgs, func(m ingest.Message) bool { return m.Place.Seq > p.kept.seq })
	if n >= 0 {
		p.s.back(len(p.s.msgs) - n)
	}
	p.s.seq = p.kept.seq
	p.s.msgs = slices.Clone(p.kept.msgs)
	return true
}

// natsPipe is the embedded server.
type natsPipe struct {
	t         *testing.T
	dir, kept string
	keptID    string
	port      int
	s         *server.Server
	nc        *nats.Conn
	js        jetstream.JetStream
	uplink    *forward.NATS
}

func newNATSPipe(t *testing.T) pipe {
	t.Helper()
	p := &natsPipe{t: t, dir: t.TempDir(), port: server.RANDOM_PORT}
	p.start()
	t.Cleanup(p.stop)
	p.create()
	return p
}

func (p *natsPipe) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *natsPipe) start() {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: p.port, JetStream: true, StoreDir: p.dir, SyncAlways: true, NoSigs: true, NoLog: true})
	p.must(err)
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		p.t.Fatal("the broker does not start")
	}
	if addr, ok := s.Addr().(*net.TCPAddr); ok {
		p.port = addr.Port
	}
	p.s = s
	p.nc, err = nats.Connect(s.ClientURL())
	p.must(err)
	p.js, err = jetstream.New(p.nc)
	p.must(err)
	p.uplink, err = forward.Dial(p.t.Context(), forward.DialConfig{URL: s.ClientURL(), Site: site, Agent: agentName}, slog.New(slog.DiscardHandler))
	p.must(err)
}

func (p *natsPipe) stop() {
	_ = p.uplink.Close() // the server goes too
	p.nc.Close()
	p.s.Shutdown()
	p.s.WaitForShutdown()
}

func (p *natsPipe) create() {
	_, err := p.js.CreateStream(p.t.Context(), jetstream.StreamConfig{
		Name: subject.IngestStream, Subjects: []string{subject.IngestAll}, Storage: jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, MaxBytes: 1 << 20, DenyDelete: true,
	})
	p.must(err)
}

func (p *natsPipe) link() forward.Link { return p.uplink }

func (p *natsPipe) stream() jetstream.Stream {
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	for {
		s, err := p.js.Stream(ctx, subject.IngestStream)
		if err == nil {
			return s
		}
		if ctx.Err() != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *natsPipe) identity() string {
	i := p.stream().CachedInfo()
	return i.Config.Name + "@" + i.Created.UTC().Format(time.RFC3339Nano)
}

// read reads as ingest does: a consumer that begins behind a place.
func (p *natsPipe) read(behind uint64) (got []string, last uint64) {
	s := p.stream()
	last = s.CachedInfo().State.LastSeq
	c, err := s.CreateConsumer(p.t.Context(), jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: behind + 1, AckPolicy: jetstream.AckNonePolicy, MaxDeliver: 1, MemoryStorage: true, Replicas: 1,
	})
	p.must(err)
	for pending := c.CachedInfo().NumPending; pending > 0; {
		b, err := c.Fetch(int(pending), jetstream.FetchMaxWait(10*time.Second))
		p.must(err)
		for m := range b.Messages() {
			meta, err := m.Metadata()
			p.must(err)
			got = append(got, fmt.Sprintf("%d %s %s", meta.Sequence.Stream, m.Subject(), m.Data()))
			pending--
		}
		p.must(b.Error())
	}
	return got, last
}

func (p *natsPipe) renew() bool {
	was := p.identity()
	p.must(p.js.DeleteStream(p.t.Context(), subject.IngestStream))
	p.create()
	return was != p.identity()
}

func (p *natsPipe) purge(through uint64) {
	for _, road := range []subject.Road{subject.Live, subject.Backlog} {
		p.must(p.stream().Purge(p.t.Context(), jetstream.WithPurgeSubject(subject.Ingest(site, agentName, road)), jetstream.WithPurgeSequence(through+1)))
	}
}

func (p *natsPipe) backup() {
	p.keptID = p.identity()
	p.stop()
	// A server that ended may still be taking away what was deleted before.
	err := fs.ErrNotExist
	for errors.Is(err, fs.ErrNotExist) {
		p.kept = p.t.TempDir()
		err = os.CopyFS(p.kept, os.DirFS(p.dir))
	}
	p.must(err)
	p.start()
}

func (p *natsPipe) restart(restored bool) bool {
	was := p.identity()
	restored = restored && p.kept != "" && p.keptID == was
	p.stop()
	if restored {
		p.dir = filepath.Join(p.t.TempDir(), "again")
		p.must(os.CopyFS(p.dir, os.DirFS(p.kept)))
	}
	p.start()
	return was == p.identity()
}

func streamScript(t *testing.T, p pipe, seed uint64) (out []string) {
	t.Helper()
	l, n, kept := luck(seed), 0, uint64(0)
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for range 25 {
		switch o := l.below(12); {
		case o < 6:
			n++
			road := []subject.Road{subject.Live, subject.Backlog}[l.below(2)]
			place, err := p.link().Publish(t.Context(), subject.Ingest(site, agentName, road), fmt.Append(nil, "message ", n))
			say("publish: %d %v", place.Seq, err)
		case o < 8: // also beyond the end: there is nothing, and no error
			behind := uint64(l.below(n + 3))
			got, last := p.read(behind)
			say("behind %d of %d: %q", behind, last, got)
		case o < 9:
			say("made anew: another %v", p.renew())
		case o < 10:
			_, last := p.read(0)
			p.purge(uint64(l.below(int(last) + 1)))
		case o < 11:
			p.backup()
			_, kept = p.read(0)
		default:
			same := p.restart(l.below(2) == 0)
			got, last := p.read(0)
			say("restarted, backup at %d: the same %v, %d: %q", kept, same, last, got)
		}
	}
	return out
}

func TestConform_Stream(t *testing.T) {
	seeds := uint64(4)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		model := streamScript(t, newModelPipe(t), seed+1)
		same(t, seed+1, model, streamScript(t, newNATSPipe(t), seed+1))
	}
}

// TestConform_SeesACrookedModel: the suites would see a model that is not like
// what it stands for.
func TestConform_SeesACrookedModel(t *testing.T) {
	onDisk := func(c control) (out []string) {
		for seed := range uint64(4) {
			d := newDisk(&tap{})
			c.onDisk(d)
			out = append(out, diskScript(t, modelPlace{d}, seed+1)...)
		}
		return out
	}
	onStore := func(c control) (out []string) {
		for seed := range uint64(4) {
			s := newStore(&tap{})
			c.onStore(s)
			out = append(out, storeScript(t, modelStore{s}, seed+1)...)
		}
		return out
	}
	if slices.Equal(onDisk(intact), onDisk(fsyncOff)) {
		t.Error("the suite of the disk does not see that it syncs nothing")
	}
	for _, c := range []control{hubFsyncOff, appendUnconditional, hubEpochKept, foldByArrival} {
		if slices.Equal(onStore(intact), onStore(c)) {
			t.Errorf("the suite of the store does not see %s", c)
		}
	}
	if !slices.Equal(onDisk(intact), onDisk(intact)) || !slices.Equal(onStore(intact), onStore(intact)) {
		t.Error("a suite differs from itself")
	}
}
