package opcua

import (
	"slices"
	"strings"

	"plantmesh/proto/mesh"
)

// unread gathers values that could not be taken: one void tells of all of
// them, beside a sample without a value for each. Its stretches are empty, because the other signals were heard.
type unread struct {
	count   uint64
	at      mesh.Nanos
	signals []string
}

func (u *unread) add(signal string, at mesh.Nanos, why error) {
	u.count++
	u.at = max(u.at, at)
	text := signal + ": " + why.Error()
	if len(u.signals) < maxNamed && !slices.Contains(u.signals, text) {
		u.signals = append(u.signals, text)
	}
}

func (u *unread) flush(source string) (mesh.Void, bool) {
	if u.count == 0 {
		return mesh.Void{}, false
	}
	v := mesh.Void{
		Cause: mesh.CauseUnreadable, Parts: []mesh.Part{{Source: source, Times: mesh.Span{From: u.at, To: u.at}, Count: u.count}},
		Note: strings.Join(u.signals, "; "),
	}
	*u = unread{}
	return v, true
}
