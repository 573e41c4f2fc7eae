package mapping

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

var errQuality = errors.New("quality means nothing that is declared")

// Quality says where a device tells how good a value is, and what its words mean.
// Texts that begin with good, uncertain or bad, true (good) and false (bad) need no
// declaration. Where there is none in a message the value is good.
type Quality struct {
	Path   string            `yaml:"path"`   // such as q, or values[*].q
	As     string            `yaml:"as"`     // what numbers are: opcua (32 bits) or opcda (8 bits, 192 is good); without it values says so
	Values map[string]string `yaml:"values"` // what the device says, and which of good, uncertain, bad or an OPC UA status such as 0x80890000 that is
}

// Severities of OPC UA without more to say (OPC 10000-4, 7.39).
const (
	good      mesh.Status = 0
	uncertain mesh.Status = 0x40000000
	bad       mesh.Status = 0x80000000
)

// grades is Quality as it is used.
type grades struct {
	as    string
	words map[string]mesh.Status
}

func (q *Quality) compile() (g grades, err error) {
	g.as = q.As
	switch {
	case q.Path == "" && (q.As != "" || len(q.Values) > 0):
		return g, strict.At("quality.path", "quality.path is missing: where does the device say it?")
	case q.As != "" && q.As != "opcua" && q.As != "opcda":
		return g, strict.At("quality.as", "quality.as %q is neither opcua nor opcda; what else a device says stands in quality.values", q.As)
	}
	g.words = make(map[string]mesh.Status, len(q.Values))
	for said, means := range q.Values {
		s, ok := grade(means)
		if n, err := strconv.ParseUint(means, 0, 32); err == nil {
			s, ok = mesh.Status(n), true
		}
		if !ok {
			return g, strict.At("quality.values."+said, "quality %q is none of good, uncertain, bad, or an OPC UA status such as 0x80890000", means)
		}
		g.words[said] = s
	}
	return g, nil
}

// grade is the severity that a word begins with, as the names of OPC UA do.
func grade(word string) (s mesh.Status, ok bool) {
	for _, x := range [...]struct {
		word string
		s    mesh.Status
	}{{"good", good}, {"uncertain", uncertain}, {"bad", bad}} {
		if len(word) >= len(x.word) && strings.EqualFold(word[:len(x.word)], x.word) {
			return x.s, true
		}
	}
	return 0, false
}

// status is what a node says of the quality.
func (g *grades) status(d *document, n *node) (mesh.Status, error) {
	raw := d.raw(n.at)
	if s, ok := g.words[string(raw)]; ok {
		return s, nil
	}
	in, digits := *n, n.kind == number
	if n.kind == text {
		in, digits = d.digits(n)
	}
	switch {
	case n.kind == truth:
		return good, nil
	case n.kind == falsity:
		return bad, nil
	case digits && g.as != "":
		m, ok := in.whole()
		if ok && !in.neg && g.as == "opcua" && m < 1<<32 {
			return mesh.Status(m), nil
		}
		if ok && !in.neg && g.as == "opcda" && m < 1<<16 { // the upper byte is the vendor's
			return ofDA(uint8(m))
		}
	case n.kind == text && !digits:
		if s, ok := grade(string(raw[:min(len(raw), 16)])); ok {
			return s, nil
		}
	}
	return bad, fmt.Errorf("%w: %.40q", errQuality, raw)
}

// ofDA is a quality of OPC DA (QQSSSSLL, OPC Data Access 3.00 §6.8) as the status
// of OPC UA with the same meaning, limit bits included.
func ofDA(q uint8) (s mesh.Status, err error) {
	switch q >> 2 {
	case 192 >> 2:
		s = good
	case 216 >> 2:
		s = 0x00960000 // GoodLocalOverride
	case 4 >> 2:
		s = 0x80890000 // BadConfigurationError
	case 8 >> 2:
		s = 0x808A0000 // BadNotConnected
	case 12 >> 2:
		s = 0x808B0000 // BadDeviceFailure
	case 16 >> 2:
		s = 0x808C0000 // BadSensorFailure
	case 20 >> 2, 24 >> 2: // last known value, communication failure
		s = 0x80310000 // BadNoCommunication
	case 28 >> 2:
		s = 0x808D0000 // BadOutOfService
	case 32 >> 2:
		s = 0x80320000 // BadWaitingForInitialData
	case 68 >> 2:
		s = mesh.StatusUncertainLast
	case 80 >> 2:
		s = 0x40930000 // UncertainSensorNotAccurate
	case 84 >> 2:
		s = 0x40940000 // UncertainEngineeringUnitsExceeded
	case 88 >> 2:
		s = 0x40950000 // UncertainSubNormal
	default:
		switch q >> 6 {
		case 0:
			s = bad
		case 1:
			s = uncertain
		case 3:
			s = good
		default:
			return bad, fmt.Errorf("%w: %d is none of OPC DA", errQuality, q)
		}
	}
	if limit := mesh.Status(q & 3); limit != 0 {
		s |= 0x400 | limit<<8 // InfoType DataValue, low, high or constant
	}
	return s, nil
}
