package opcua

import (
	"testing"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

func TestServer_PathsOfBrowseNames(t *testing.T) {
	const state = "line1.filler.state"
	r := open(t, Config{}, state, tempA)
	c := connect(t, r.URL())
	type step struct {
		ns   uint16
		name string
	}
	path := func(from *ua.NodeID, steps ...step) *ua.BrowsePath {
		p := &ua.BrowsePath{StartingNode: from, RelativePath: &ua.RelativePath{Elements: []*ua.RelativePathElement{}}}
		for _, s := range steps {
			p.RelativePath.Elements = append(p.RelativePath.Elements, &ua.RelativePathElement{
				ReferenceTypeID: ua.NewNumericNodeID(0, id.HierarchicalReferences), IncludeSubtypes: true,
				TargetName: &ua.QualifiedName{NamespaceIndex: s.ns, Name: s.name},
			})
		}
		return p
	}
	objects := ua.NewNumericNodeID(0, id.ObjectsFolder)
	paths := []*ua.BrowsePath{
		path(objects, step{nsPackML, "PackMLObjects"}, step{nsOwn, "line1-filler"}, step{nsPackML, "Status"}, step{nsPackML, "StateCurrent"}),
		path(objects, step{nsMachinery, "Machines"}, step{nsOwn, "line1-filler"}, step{nsDI, "Identification"}, step{nsDI, "SerialNumber"}),
		path(ua.NewNumericNodeID(0, id.RootFolder), step{0, "Objects"}, step{nsMachinery, "Machines"}),
		path(objects, step{nsOwn, "Machines"}), // of another namespace
		path(text("nowhere"), step{nsOwn, "x"}),
		path(objects),
		path(objects, step{0, ""}),
	}
	res := must[*ua.TranslateBrowsePathsToNodeIDsResponse](c, &ua.TranslateBrowsePathsToNodeIDsRequest{BrowsePaths: paths}).Results
	for i, want := range []struct {
		code ua.StatusCode
		to   *ua.NodeID
	}{
		{0, text(state)},
		{0, text("line1.filler.Identification.SerialNumber")},
		{0, ua.NewNumericNodeID(nsMachinery, machinesFolder)},
		{ua.StatusBadNoMatch, nil},
		{ua.StatusBadNodeIDUnknown, nil},
		{ua.StatusBadNothingToDo, nil},
		{ua.StatusBadBrowseNameInvalid, nil},
	} {
		got := res[i]
		if got.StatusCode != want.code || want.to == nil != (len(got.Targets) == 0) {
			t.Errorf("path %d: %v with %d targets", i, got.StatusCode, len(got.Targets))
			continue
		}
		if want.to != nil && got.Targets[0].TargetID.NodeID.String() != want.to.String() {
			t.Errorf("path %d leads to %v, want %v", i, got.Targets[0].TargetID.NodeID, want.to)
		}
	}
	back := path(text(state), step{nsPackML, "Status"})
	back.RelativePath.Elements[0].IsInverse = true
	up := must[*ua.TranslateBrowsePathsToNodeIDsResponse](c, &ua.TranslateBrowsePathsToNodeIDsRequest{BrowsePaths: []*ua.BrowsePath{back}}).Results[0]
	if up.StatusCode != 0 || len(up.Targets) != 1 {
		t.Errorf("inverse: %+v", up)
	}

	reg := must[*ua.RegisterNodesResponse](c, &ua.RegisterNodesRequest{NodesToRegister: []*ua.NodeID{text(state)}})
	if len(reg.RegisteredNodeIDs) != 1 || reg.RegisteredNodeIDs[0].String() != text(state).String() {
		t.Errorf("registered %v", reg.RegisteredNodeIDs)
	}
	must[*ua.UnregisterNodesResponse](c, &ua.UnregisterNodesRequest{NodesToUnregister: reg.RegisteredNodeIDs})
}
