package ingest

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

func TestStep_SaysHowMuchIsLeftOut(t *testing.T) {
	r := newRig(t)
	var log bytes.Buffer
	r.g = New(Config{}, r.store, slog.New(slog.NewTextHandler(&log, nil)))
	a := newAgent(t, "gw-1")
	open, b1 := a.open(), a.batch(2)
	stray, err := wire.SealVerdict("line1-opcua", mesh.Verdict{Revision: 1, Of: mesh.Position{Log: a.log, Epoch: a.at.Epoch, Seq: 9}})
	if err != nil {
		t.Fatal(err)
	}
	data := wire.AppendDescriptor(nil, a.table)
	data = append(data, frames(open)...)
	data = wire.AppendVerdict(data, stray) // without its batch
	data = append(data, frames(b1)...)
	r.raw(a, data)
	r.want(open, b1)
	if s := log.String(); !strings.Contains(s, "damaged frame left out, the next one is read") || strings.Contains(s, "from here on") {
		t.Errorf("the log says\n%s", s)
	}
	log.Reset()
	r.raw(a, append(frames(a.batch(1)), "no frame"...))
	if s := log.String(); !strings.Contains(s, "left out from here on") {
		t.Errorf("the log says\n%s", s)
	}
}
