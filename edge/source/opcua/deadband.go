package opcua

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/gopcua/opcua/ua"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// deadband is how far a value must move to count.
type deadband struct {
	by      float64
	percent bool // of EURange
}

// parseDeadband reads "0.5" or "2%".
func parseDeadband(s string) (d deadband, err error) {
	if s == "" {
		return d, nil
	}
	number, percent := strings.CutSuffix(s, "%")
	d.percent = percent
	d.by, err = strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !(d.by > 0) || math.IsInf(d.by, 0) || percent && d.by > 100 {
		return d, fmt.Errorf("deadband %q is neither a difference such as 0.5 nor a share of the range such as 2%%", s)
	}
	return d, nil
}

// parseTrigger is what makes a server send a value (OPC 10000-4 §7.22.2).
func parseTrigger(s string) (ua.DataChangeTrigger, bool) {
	switch s {
	case "", "value":
		return ua.DataChangeTriggerStatusValue, true
	case "status":
		return ua.DataChangeTriggerStatus, true
	case "timestamp":
		return ua.DataChangeTriggerStatusValueTimestamp, true
	}
	return 0, false
}

// sifted checks a signal's deadband and trigger.
func (s Signal) sifted() error {
	d, err := parseDeadband(s.Deadband)
	if err != nil {
		return strict.At("deadband", "%w", err)
	}
	if t, ok := mesh.ParseType(s.Type); ok && d.by > 0 && !numeric(t) {
		return strict.At("deadband", "deadband is for numbers: type is %s", s.Type)
	}
	if _, ok := parseTrigger(s.Trigger); !ok {
		return strict.At("trigger", "trigger %q is none of value, status, timestamp", s.Trigger)
	}
	return nil
}

// filter is what a server is asked to hold back of signal i; nil: nothing.
func (r *Reader) filter(i int) *ua.DataChangeFilter {
	s := r.cfg.Signals[i]
	trigger, _ := parseTrigger(s.Trigger)
	d, _ := parseDeadband(s.Deadband)
	if r.items[i].bare || !r.profile.filters || trigger == ua.DataChangeTriggerStatusValue && d.by == 0 {
		return nil
	}
	f := &ua.DataChangeFilter{Trigger: trigger}
	switch {
	case d.by == 0:
	case d.percent:
		f.DeadbandType, f.DeadbandValue = uint32(ua.DeadbandTypePercent), d.by
	default:
		f.DeadbandType, f.DeadbandValue = uint32(ua.DeadbandTypeAbsolute), d.by
	}
	return f
}

// filterRefused reports whether a server gives no item because of its filter.
func filterRefused(code ua.StatusCode) bool {
	switch code {
	case ua.StatusBadDeadbandFilterInvalid, ua.StatusBadMonitoredItemFilterUnsupported, ua.StatusBadMonitoredItemFilterInvalid, ua.StatusBadFilterNotAllowed:
		return true
	default:
		return false
	}
}

// sieve holds back here what a signal's deadband holds back, whether the server
// does so too or not: what that sends passes it.
type sieve struct {
	band   float64 // 0: everything passes
	last   float64
	status mesh.Status
	some   bool // last is a value that was kept
}

// holds reports whether the sample says no more than the one kept before.
func (v *sieve) holds(s *mesh.Sample) bool {
	f, ok := s.Value.Float()
	if !ok {
		v.some = false
		return false
	}
	if v.some && s.Status == v.status && math.Abs(f-v.last) <= v.band {
		return true
	}
	v.some, v.last, v.status = true, f, s.Status
	return false
}

// sieves sets up what is held back here. A share of a range that the server does
// not say is left to the server.
func (r *Reader) sieves() {
	if !slices.ContainsFunc(r.cfg.Signals, func(s Signal) bool { return s.Deadband != "" }) {
		return
	}
	if r.sieved == nil {
		r.sieved = make([]sieve, len(r.cfg.Signals))
	}
	for i, s := range r.cfg.Signals {
		d, _ := parseDeadband(s.Deadband)
		switch span := r.items[i].facts.span; {
		case !d.percent:
			r.sieved[i].band = d.by
		case span != nil && span.High > span.Low && !math.IsInf(span.High-span.Low, 0):
			r.sieved[i].band = d.by / 100 * (span.High - span.Low)
		default:
			r.sieved[i].band = 0
		}
	}
}

// held reports whether a sample of signal i need not be kept. The first value of an
// item always is.
func (r *Reader) held(i int, s *mesh.Sample) bool {
	v := &r.sieved[i]
	if s.Flags&mesh.FlagInitial != 0 {
		v.some = false
	}
	return v.band > 0 && v.holds(s)
}
