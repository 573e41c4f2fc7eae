package opcua

import (
	"testing"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/datatype"
	"plantmesh/proto/mesh"
)

// TestAgree: what servers do of a filter they don't like, and what is left of it.
func TestAgree(t *testing.T) {
	const all = 1<<countClauses - 1
	said := func(f *ua.EventFilter, of uint32, where ua.StatusCode) *ua.ExtensionObject {
		r := &ua.EventFilterResult{WhereClauseResult: &ua.ContentFilterResult{}}
		for _, c := range f.SelectClauses {
			code := ua.StatusOK
			if c.TypeDefinitionID.IntID() == of {
				code = ua.StatusBadNodeIDUnknown
			}
			r.SelectClauseResults = append(r.SelectClauseResults, code)
		}
		for range f.WhereClause.Elements {
			r.WhereClauseResult.ElementResults = append(r.WhereClauseResult.ElementResults, &ua.ContentFilterElementResult{StatusCode: where})
		}
		return ua.NewExtensionObject(r)
	}
	alarms := uint64(1 << atActive)
	for _, c := range []struct {
		name   string
		answer func(f *ua.EventFilter) *ua.MonitoredItemCreateResult
		want   eventState
		status ua.StatusCode
		asked  int
	}{
		{"takes all", func(*ua.EventFilter) *ua.MonitoredItemCreateResult { return &ua.MonitoredItemCreateResult{} }, eventState{Clauses: all}, 0, 1},
		{"takes it, and has no alarms", func(f *ua.EventFilter) *ua.MonitoredItemCreateResult {
			return &ua.MonitoredItemCreateResult{FilterResult: said(f, 2915, 0)}
		}, eventState{Clauses: all, Lacks: alarms}, 0, 1},
		{"takes it, and doesn't filter", func(f *ua.EventFilter) *ua.MonitoredItemCreateResult {
			return &ua.MonitoredItemCreateResult{FilterResult: said(f, 0, ua.StatusBadFilterOperatorUnsupported)}
		}, eventState{Clauses: all, Unfiltered: true}, 0, 1},
		{"refuses, and names clauses", func(f *ua.EventFilter) *ua.MonitoredItemCreateResult {
			if len(f.SelectClauses) == countClauses {
				return &ua.MonitoredItemCreateResult{StatusCode: ua.StatusBadEventFilterInvalid, FilterResult: said(f, 2915, 0)}
			}
			return &ua.MonitoredItemCreateResult{}
		}, eventState{Clauses: all &^ alarms, Lacks: alarms}, 0, 2},
		{"refuses the filter by type", func(f *ua.EventFilter) *ua.MonitoredItemCreateResult {
			if len(f.WhereClause.Elements) > 0 {
				return &ua.MonitoredItemCreateResult{StatusCode: ua.StatusBadContentFilterInvalid}
			}
			return &ua.MonitoredItemCreateResult{}
		}, eventState{Clauses: all, Unfiltered: true}, 0, 2},
		{"refuses conditions without a word", func(f *ua.EventFilter) *ua.MonitoredItemCreateResult {
			if len(f.SelectClauses) > atSeverity+1 {
				return &ua.MonitoredItemCreateResult{StatusCode: ua.StatusBadMonitoredItemFilterInvalid}
			}
			return &ua.MonitoredItemCreateResult{}
		}, eventState{Clauses: basic, Lacks: all &^ basic, Unfiltered: true}, 0, 3},
		{"refuses whatever it is", func(*ua.EventFilter) *ua.MonitoredItemCreateResult {
			return &ua.MonitoredItemCreateResult{StatusCode: ua.StatusBadAttributeIDInvalid}
		}, eventState{}, ua.StatusBadAttributeIDInvalid, 3},
		{"names all", func(f *ua.EventFilter) *ua.MonitoredItemCreateResult {
			r := &ua.EventFilterResult{}
			for range f.SelectClauses {
				r.SelectClauseResults = append(r.SelectClauseResults, ua.StatusBadNotSupported)
			}
			return &ua.MonitoredItemCreateResult{StatusCode: ua.StatusBadEventFilterInvalid, FilterResult: ua.NewExtensionObject(r)}
		}, eventState{}, ua.StatusBadEventFilterInvalid, 3},
	} {
		asked := 0
		st, status, err := agree(filter([]*ua.NodeID{ua.NewNumericNodeID(0, 2915)}), clauses(), func(f *ua.EventFilter) (*ua.MonitoredItemCreateResult, error) {
			asked++
			return c.answer(f), nil
		})
		if err != nil || st != c.want || status != c.status || asked != c.asked {
			t.Errorf("%s: %+v, %v, %v after %d tries; want %+v, %v after %d", c.name, st, status, err, asked, c.want, c.status, c.asked)
		}
	}
}

// TestAgree_OwnFieldsGoFirst: a server that refuses a filter without a word may only
// dislike a vendor's fields.
func TestAgree_OwnFieldsGoFirst(t *testing.T) {
	list := append(clauses(), clause{field: "Jam", typ: mesh.TypeUint, own: &datatype.EventField{Of: ua.NewNumericNodeID(2, 77), Name: &ua.QualifiedName{NamespaceIndex: 2, Name: "Jam"}}})
	st, _, err := agree(filter([]*ua.NodeID{ua.NewNumericNodeID(2, 77)}), list, func(f *ua.EventFilter) (*ua.MonitoredItemCreateResult, error) {
		if len(f.SelectClauses) > countClauses {
			if last := f.SelectClauses[countClauses]; last.TypeDefinitionID.IntID() != 77 || last.BrowsePath[0].Name != "Jam" || last.BrowsePath[0].NamespaceIndex != 2 {
				t.Errorf("asked is %+v", last)
			}
			return &ua.MonitoredItemCreateResult{StatusCode: ua.StatusBadMonitoredItemFilterInvalid}, nil
		}
		return &ua.MonitoredItemCreateResult{}, nil
	})
	if want := (eventState{Clauses: standard, Lacks: 1 << countClauses}); err != nil || st != want {
		t.Errorf("%+v, %v", st, err)
	}
}
