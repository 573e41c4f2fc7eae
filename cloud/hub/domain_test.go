package hub

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/audit"
	"plantmesh/cloud/port/stream"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/meshtest"
	"plantmesh/proto/subject"
)

// oeeRows commits rows to a product's log, of the keys 1 to n, so many at a time.
func oeeRows(t *testing.T, s *store.Store, n int, revision uint32) {
	t.Helper()
	end, place, err := s.Resume(t.Context(), "oee", 0)
	check(t, err)
	step := mesh.Step{Product: "oee", After: end, PlaceWas: place, Place: place}
	for i := range n {
		step.Rows = append(step.Rows, mesh.Row{
			Product: "oee", Entity: "line1-filler", Key: strconv.Itoa(i), From: meshtest.At(i), To: meshtest.At(i + 1), State: mesh.RowFinal, Revision: revision, Produced: meshtest.At(i + int(revision)),
			Body: fmt.Appendf(nil, `{"equipment":"line1-filler","n":%d}`, i),
		})
	}
	_, err = s.Commit(t.Context(), step)
	check(t, err)
}

// drained has a port publish all it has.
func drained(t *testing.T, port *stream.Stream) {
	t.Helper()
	for range 100 {
		worked, err := port.Step(t.Context())
		check(t, err)
		if !worked {
			return
		}
	}
	t.Fatal("the port has no end")
}

// published are the messages of the product stream of an account, by their ids; nil:
// there is no stream.
func published(t *testing.T, nc *nats.Conn) map[string]int {
	t.Helper()
	js, err := jetstream.New(nc)
	check(t, err)
	s, err := js.Stream(t.Context(), subject.ProductStream)
	if err != nil {
		return nil
	}
	out := map[string]int{}
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		check(t, err)
		out[m.Header.Get(jetstream.MsgIDHeader)]++
	}
	return out
}

// fromBefore is the data folder of a hub that knew one account for all, with so many rows
// of a product published there; an agent of that time.
func fromBefore(t *testing.T, cfg Config, rows int) (agent nats.Option) {
	t.Helper()
	dir := filepath.Join(cfg.Data, registryName)
	_, err := registry.Open(dir)
	check(t, err)
	path := filepath.Join(dir, "keys.json")
	b, err := os.ReadFile(path)
	check(t, err)
	var keys map[string]any
	check(t, json.Unmarshal(b, &keys))
	delete(keys, "domain_seed")
	b, err = json.Marshal(keys)
	check(t, err)
	check(t, os.WriteFile(path, b, 0o600))
	reg, err := registry.Open(dir)
	check(t, err)
	if reg.Trust.DomainKey != "" {
		t.Fatal("the key of the domain is there")
	}
	seed, pub := key(t)
	token, err := reg.Enroll("graz", "gw-1", pub, time.Hour, time.Now())
	check(t, err)

	s, err := store.Open(t.Context(), filepath.Join(cfg.Data, databaseName), quiet())
	check(t, err)
	oeeRows(t, s, rows, 1)
	oeeRows(t, s, rows/2, 2)
	srv, err := startNATS(t.Context(), cfg, reg, &server.MemAccResolver{}, quiet())
	check(t, err)
	nc, err := connect(srv, reg.HubUser)
	check(t, err)
	js, err := stream.Open(t.Context(), nc, int64(cfg.NATS.MaxStore)/productShare)
	check(t, err)
	drained(t, stream.New(stream.Config{Domain: "production", Site: "graz", Products: []stream.Product{{ID: "oee", Version: "1.0.0"}}}, s, s, js, quiet()))
	if n := len(published(t, nc)); n != rows+rows/2 {
		t.Fatalf("the hub of before has published %d messages", n)
	}
	s.Keep(50) // older changes of rows are told nobody any more
	oeeRows(t, s, 1, 3)
	nc.Close()
	srv.Shutdown()
	srv.WaitForShutdown()
	check(t, s.Close())
	return nats.UserJWTAndSeed(token, seed)
}

// acts are what the trail has of one kind.
func acts(t *testing.T, cfg Config, action string) []audit.Entry {
	t.Helper()
	out, err := audit.Newest(t.Context(), TrailFolder(cfg), audit.Filter{Action: action}, 100)
	check(t, err)
	return out
}

// A hub of before begins: the key of the domain's account is made once and recorded, its
// stream has each row as it is, once, the one of before is gone, and agents go on. What
// comes then, comes there; a hub that begins again publishes nothing twice, and one whose
// streams are gone all that there is.
func TestHub_TakesItsProductsOutOfTheAccountOfTheEdge(t *testing.T) {
	cfg := testConfig(t)
	check(t, os.MkdirAll(cfg.Data, 0o700))
	agent := fromBefore(t, cfg, 300)
	var want map[string]int
	var domain string
	for begin := range 4 {
		if begin == 3 { // as a restore does it
			check(t, os.RemoveAll(filepath.Join(cfg.Data, natsFolder)))
		}
		h := &hub{cfg: cfg, log: quiet(), counts: &tally{}, accounts: &server.MemAccResolver{}}
		check(t, h.open(t.Context()))
		if begin == 0 {
			domain = h.reg.Trust.DomainKey
		} else if h.reg.Trust.DomainKey != domain {
			t.Error("another key of the domain")
		}
		port, err := h.stream(t.Context())
		check(t, err)
		worked, err := port.Step(t.Context()) // ids would hide what is published twice
		if check(t, err); worked != (begin == 0 || begin == 3) {
			t.Errorf("start %d publishes: %t", begin, worked)
		}
		drained(t, port)
		switch begin {
		case 0, 3:
			want = current(t, h.store)
		case 1:
			before := maps.Clone(want)
			oeeRows(t, h.store, 5, 4)
			drained(t, port)
			maps.Copy(want, current(t, h.store))
			if len(want) != len(before)+5 {
				t.Errorf("%d messages, want 5 more than %d", len(want), len(before))
			}
		}
		if got := published(t, h.domain); !maps.Equal(got, want) || len(want) < 300 {
			t.Errorf("start %d: %d messages in the domain's stream, want %d, each once", begin, len(got), len(want))
		}
		if published(t, h.conn) != nil {
			t.Error("the account of the edge has a product stream")
		}
		nc, err := dial(h, "gw-1", agent)
		check(t, err)
		nc.Close()
		check(t, h.close())
		if left, err := filepath.Glob(filepath.Join(cfg.Data, natsFolder, "jetstream", h.reg.Trust.PlantKey, "streams", "PRODUCTS*")); err != nil || len(left) > 0 {
			t.Errorf("%q are left, %v", left, err)
		}
	}
	made := acts(t, cfg, "domain-key.make")
	if len(made) != 1 || made[0].Who != "hub" || made[0].After == "" {
		t.Errorf("the trail has %+v", made)
	}
}

// current are the ids of the rows as they are now.
func current(t *testing.T, s *store.Store) map[string]int {
	t.Helper()
	out := map[string]int{}
	for cursor := ""; ; {
		rows, next, err := s.Rows(t.Context(), mesh.RowQuery{Product: "oee", After: cursor, Limit: 100, Withdrawn: true})
		check(t, err)
		for _, r := range rows {
			out[fmt.Sprintf("%s/%x/%d", r.At.Log, r.At.Epoch[:], r.At.Seq)]++
		}
		if cursor = next; next == "" {
			return out
		}
	}
}
