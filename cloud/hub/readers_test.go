package hub

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/access"
	"plantmesh/cloud/audit"
	porthttp "plantmesh/cloud/port/http"
	"plantmesh/cloud/port/stream"
	"plantmesh/proto/subject"
)

// read is a hub that has readers, and its port. Rows are the test's to make.
func read(t *testing.T) (*hub, *stream.Stream) {
	t.Helper()
	h := begun(t)
	port, err := h.stream(t.Context())
	check(t, err)
	h.runs(t, h.readers)
	return h, port
}

// added is a reader that the hub lets in; its credentials in a file.
func added(t *testing.T, h *hub, name string, products ...string) (file string) {
	t.Helper()
	_, credentials, err := AddReader(h.cfg, name, products, time.Hour, "", time.Now())
	check(t, err)
	return inForce(t, h, name, credentials)
}

// inForce waits until the hub lets somebody in by credentials.
func inForce(t *testing.T, h *hub, name, credentials string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), name+".creds")
	check(t, os.WriteFile(file, []byte(credentials), 0o600))
	until(t, 10*time.Second, name+" is let in", func() bool {
		nc, err := called(h, file)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	return file
}

// called is a reader's connection: one file says who it is and whom it trusts.
func called(h *hub, file string, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect(h.nats.ClientURL(), append(opts, nats.UserCredentials(file), nats.RootCAs(file))...)
}

// next are the rows that a reader's consumer has for it, by id; each is said to be had.
func next(t *testing.T, nc *nats.Conn, name string) map[string]int {
	t.Helper()
	js, err := jetstream.NewWithDomain(nc, "production")
	check(t, err)
	c, err := js.Consumer(t.Context(), subject.ProductStream, name)
	check(t, err)
	out := map[string]int{}
	for {
		some, err := c.FetchNoWait(500)
		check(t, err)
		n := 0
		for m := range some.Messages() {
			out[m.Headers().Get(jetstream.MsgIDHeader)]++
			check(t, m.DoubleAck(t.Context()))
			n++
		}
		check(t, some.Error())
		if n > 0 {
			continue
		}
		// The library calls it none, too, where no answer came within a second.
		if is, err := c.Info(t.Context()); err != nil || is.NumPending == 0 {
			check(t, err)
			return out
		}
	}
}

// A reader has every row once, from the first on, and those that come; who reads one
// product has nothing of another. It goes on where it is with other credentials, and
// those of before are worth nothing.
func TestReaders_HaveEveryRow(t *testing.T) {
	h, port := read(t)
	oeeRows(t, h.store, 100, 1)
	drained(t, port)
	all, none := added(t, h, "all"), added(t, h, "none", "equipment-state")
	nc, err := called(h, all)
	check(t, err)
	defer nc.Close()
	if got := next(t, nc, "all"); len(got) != 100 {
		t.Errorf("%d rows, want 100", len(got))
	}
	live, err := nc.SubscribeSync(subject.Products("production", ""))
	check(t, err)
	check(t, nc.FlushTimeout(10*time.Second))
	oeeRows(t, h.store, 3, 2)
	drained(t, port)
	for range 3 {
		_, err := live.NextMsg(10 * time.Second)
		check(t, err)
	}
	_, credentials, err := RenewReader(h.cfg, "all", time.Hour, time.Now())
	check(t, err)
	renewed := inForce(t, h, "all", credentials)
	again, err := called(h, renewed)
	check(t, err)
	defer again.Close()
	if got := next(t, again, "all"); len(got) != 3 {
		t.Errorf("%d rows more, want 3", len(got))
	}
	until(t, 5*time.Second, "the connection of before ends", func() bool { return !nc.IsConnected() })
	if nc, err := called(h, all); err == nil {
		nc.Close()
		t.Error("credentials of before are good")
	}
	other, err := called(h, none)
	check(t, err)
	defer other.Close()
	if got := next(t, other, "none"); len(got) != 0 {
		t.Errorf("who reads another product has %d rows of this one", len(got))
	}
}

// A reader who is revoked is out within five seconds, whoever revokes; its name is another
// one's then, who begins with the first row.
func TestReaders_RevokedIsOut(t *testing.T) {
	h, port := read(t)
	oeeRows(t, h.store, 10, 1)
	drained(t, port)
	file := added(t, h, "mes")
	closed := make(chan struct{})
	nc, err := called(h, file, nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	check(t, err)
	defer nc.Close()
	next(t, nc, "mes")
	if _, _, err := AddReader(h.cfg, "mes", nil, time.Hour, "", time.Now()); !errors.Is(err, access.ErrRefused) || !strings.Contains(err.Error(), "readers renew") {
		t.Errorf("a name that is taken: %v", err)
	}
	_, err = RevokeReader(h.cfg, "mes", "a drill", time.Now())
	check(t, err)
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Fatal("the connection of a revoked reader is still open after 5 s")
	}
	if nc, err := called(h, file); err == nil {
		nc.Close()
		t.Error("a revoked reader is let in")
	}
	if _, err := RevokeReader(h.cfg, "mes", "", time.Now()); !errors.Is(err, access.ErrRefused) {
		t.Errorf("again: %v", err)
	}
	nc, err = called(h, added(t, h, "mes"))
	check(t, err)
	defer nc.Close()
	if got := next(t, nc, "mes"); len(got) != 10 {
		t.Errorf("another one of this name has %d rows, want 10", len(got))
	}
	for action, want := range map[string]int{"reader.add": 2, "reader.revoke": 1} {
		if got := acts(t, h.cfg, action); len(got) != want || got[0].Object != "mes" {
			t.Errorf("the trail has %+v", got)
		}
	}
}

// Whoever asks for rows says where the answer goes. In the account of the stream that would
// be anywhere, as a row of another machine, or at the stream's own administration.
func TestReaders_CannotHaveTheHubSpeakForThem(t *testing.T) {
	h, port := read(t)
	oeeRows(t, h.store, 10, 1)
	drained(t, port)
	mes, err := called(h, added(t, h, "mes"))
	check(t, err)
	defer mes.Close()
	other, err := called(h, added(t, h, "wms"))
	check(t, err)
	defer other.Close()
	rows, err := other.SubscribeSync("dp.v1.production.>")
	check(t, err)
	check(t, other.FlushTimeout(10*time.Second))
	ask := subject.ReaderAsks("production", "mes")[1]
	mine, err := mes.SubscribeSync("_INBOX.mine")
	check(t, err)
	for _, reply := range []string{"dp.v1.production.oee.v1.graz.line1.press", "$JS.API.STREAM.PURGE.PRODUCTS", "$JS.API.STREAM.DELETE.PRODUCTS", "_INBOX.theirs", subject.Receipt("graz", "gw-1"), "_INBOX.mine"} {
		check(t, mes.PublishRequest(ask, reply, []byte("1")))
		check(t, mes.FlushTimeout(10*time.Second))
	}
	m, err := mine.NextMsg(10 * time.Second) // what was asked for before has come, too
	check(t, err)
	for _, payload := range []string{"+NXT", "+TERM"} {
		_ = mes.PublishRequest(m.Reply, "dp.v1.production.oee.v1.graz.line1.press", []byte(payload))
	}
	check(t, mes.FlushTimeout(10*time.Second))
	check(t, h.domain.FlushTimeout(10*time.Second))
	if got := published(t, h.domain); len(got) != 10 {
		t.Errorf("the stream has %d messages, want the 10 that the hub published", len(got))
	}
	oeeRows(t, h.store, 1, 2)
	drained(t, port)
	_, err = rows.NextMsg(10 * time.Second)
	check(t, err)
	if n, _, err := rows.Pending(); err != nil || n > 0 {
		t.Errorf("another reader hears %d rows more than there are, %v", n, err)
	}
}

// A product owner lets a program read by the API, as the command does: its credentials are
// told once, and neither kept, nor in the trail or the log; the trail says who.
func TestReaders_ByTheAPI(t *testing.T) {
	var said words
	h := telling(t, slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug})))
	port, err := h.stream(t.Context())
	check(t, err)
	h.runs(t, h.readers)
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	oeeRows(t, h.store, 10, 1)
	drained(t, port)
	all := people(t, h.access, "product-owner@graz", "product-owner@graz/line1")
	owner, at := all["product-owner@graz"], "/api/v1/readers"
	for _, body := range []string{`{}`, `{"name":"A.B"}`, `{"name":"mes","products":["signals"]}`, `{"name":"mes","for":"99999h"}`, `{"name":"mes","for":"soon"}`, `{"name":"mes","key":"x"}`} {
		if status, answer := owner.send(t, srv.Handler, http.MethodPost, at, body); status != http.StatusBadRequest {
			t.Errorf("%s: %d %v", body, status, answer)
		}
	}
	if status, answer := all["product-owner@graz/line1"].send(t, srv.Handler, http.MethodPost, at, `{"name":"mes"}`); status != http.StatusForbidden {
		t.Errorf("one of a line: %d %v", status, answer)
	}
	status, answer := owner.send(t, srv.Handler, http.MethodPost, at, `{"name":"mes","products":["oee"],"for":"1h","note":"their boards"}`)
	credentials, _ := answer["credentials"].(string)
	if status != http.StatusCreated {
		t.Fatalf("%d %v", status, answer)
	}
	nc, err := called(h, inForce(t, h, "mes", credentials))
	check(t, err)
	defer nc.Close()
	if got := next(t, nc, "mes"); len(got) != 10 {
		t.Errorf("it has %d rows, want 10", len(got))
	}
	status, answer = owner.send(t, srv.Handler, http.MethodPost, at+"/mes/renew", `{"for":"2h"}`)
	renewed, _ := answer["credentials"].(string)
	if status != http.StatusOK || renewed == credentials {
		t.Errorf("renewed: %d %v", status, answer)
	}
	inForce(t, h, "mes", renewed)
	for _, c := range []struct {
		method, target, body string
		want                 int
	}{
		{http.MethodPost, at, `{"name":"mes"}`, 409},
		{http.MethodPost, at + "/none/renew", ``, 404},
		{http.MethodPost, at + "/none/rewind", `{"all":true}`, 404},
		{http.MethodPost, at + "/mes/rewind", ``, 400},
		{http.MethodPost, at + "/mes/rewind", `{"all":true,"from":"2026-03-01T06:00:00Z"}`, 400},
		{http.MethodPost, at + "/mes/rewind", `{"from":"0001-01-01T00:00:00Z"}`, 400},
		{http.MethodPost, at + "/mes/rewind", `{"from":"2199-03-01T06:00:00Z"}`, 400},
		{http.MethodPost, at + "/mes/rewind", `{"all":true,"reason":"they lost theirs"}`, 200},
		{http.MethodDelete, at + "/mes", `{"reason":"a drill"}`, 200},
		{http.MethodDelete, at + "/mes", ``, 404},
	} {
		if status, answer := owner.send(t, srv.Handler, c.method, c.target, c.body); status != c.want {
			t.Errorf("%s %s %s: %d, want %d: %v", c.method, c.target, c.body, status, c.want, answer)
		}
	}
	_, answer = owner.send(t, srv.Handler, http.MethodGet, at, "")
	listed, err := json.Marshal(answer)
	check(t, err)
	entries := acts(t, h.cfg, "reader.")
	trail, err := json.Marshal(entries)
	check(t, err)
	if len(entries) != 4 || entries[3].Who != "user0" || entries[3].Via != audit.Token || entries[3].Reason != "their boards" || entries[1].Action != "reader.rewind" || entries[1].Reason != "they lost theirs" || entries[0].Reason != "a drill" {
		t.Errorf("the trail has %s", trail)
	}
	seed := regexp.MustCompile(`S[A-Z][A-Z2-7]{56}`)
	for name, text := range map[string][]byte{"the list": listed, "the trail": trail, "the log": []byte(said.String())} {
		if seed.Match(text) || bytes.Contains(text, []byte(seed.FindString(credentials))) {
			t.Errorf("%s has a secret: %s", name, text)
		}
	}
	if seed.FindString(credentials) == "" || !strings.Contains(string(listed), "mes") {
		t.Errorf("credentials %q, listed %s", credentials, listed)
	}
	// Who runs wild is slowed down.
	for status = 0; status != http.StatusTooManyRequests; {
		if status, answer = owner.send(t, srv.Handler, http.MethodPost, at+"/none/renew", ""); status != http.StatusNotFound && status != http.StatusTooManyRequests {
			t.Fatalf("%d %v", status, answer)
		}
	}
}
