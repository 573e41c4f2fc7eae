package opcua

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/proto/strict"
)

const (
	// maxSteps is the most browse names in one path.
	maxSteps = 64
	// maxBrowseName is the longest browse name, in bytes (OPC 10000-3 §8.3: 512 characters).
	maxBrowseName = 2048
)

// address is where a signal's node is found: by its id, whose namespace may still
// be a URI, or by a path of browse names.
type address struct {
	space space      // of the id
	id    *ua.NodeID // nil: by path
	path  []step     // from the root folder
}

// step is one browse name of a path.
type step struct {
	space space
	name  string
}

// space is a namespace as a file names it.
type space struct {
	uri   string // empty: the index counts
	index uint16
}

// address reads where the signal's node is found.
func (s Signal) address() (address, error) {
	switch {
	case s.Node != "" && s.Path != "":
		return address{}, strict.At("path", "node and path both say where the signal is: leave one out")
	case s.Path != "":
		path, err := parsePath(s.Path)
		return address{path: path}, strict.Under("path", err)
	case s.Node == "":
		return address{}, strict.At("node", "node is missing: name the signal's node, or its path")
	}
	a, err := parseNode(s.Node)
	return a, strict.Under("node", err)
}

func parseNode(s string) (address, error) {
	rest, ok := strings.CutPrefix(s, "nsu=")
	if !ok {
		id, err := ua.ParseNodeID(s)
		if _, value, found := strings.Cut(s, "="); err != nil || !found || value == "" {
			return address{}, fmt.Errorf("node %q is not nsu=URI;s=ID or ns=2;s=ID", s)
		}
		return address{id: id, space: space{index: id.Namespace()}}, nil
	}
	// The identifier begins at the first ";X=" behind the URI.
	cut := -1
	for _, kind := range []string{";s=", ";i=", ";g=", ";b="} {
		if i := strings.Index(rest, kind); i > 0 && (cut < 0 || i < cut) {
			cut = i
		}
	}
	if cut < 0 {
		return address{}, fmt.Errorf("node %q names no identifier: write nsu=URI;s=ID", s)
	}
	// Any index will do: it is replaced once the server's namespaces are known.
	id, err := ua.ParseNodeID("ns=65535;" + rest[cut+1:])
	if err != nil {
		return address{}, fmt.Errorf("node %q: %w", s, err)
	}
	return address{id: id, space: space{uri: rest[:cut]}}, nil
}

// parsePath reads "/Objects/nsu=URI;Name/2:Name": what OPC 10000-4 Annex A.2 calls a
// relative path, of hierarchical references only, with the namespace of a name as
// in OPC 10000-6 §5.1.12. A name without one is of the namespace 0. Behind & stands
// a character of the name as it is; a dot needs none.
func parsePath(s string) ([]step, error) {
	rest, ok := strings.CutPrefix(s, "/")
	if !ok {
		return nil, fmt.Errorf("path %q does not begin at the root: write it as /Objects/Name", s)
	}
	var out []step
	for more := true; more; {
		var one step
		var err error
		if one, rest, more, err = parseStep(rest); err != nil {
			return nil, fmt.Errorf("path %q: %w", s, err)
		}
		if out = append(out, one); len(out) > maxSteps {
			return nil, fmt.Errorf("path %q has more than %d names", s, maxSteps)
		}
	}
	return out, nil
}

// parseStep reads one browse name. A slash ends it, but not inside a URI.
func parseStep(s string) (out step, rest string, more bool, err error) {
	if uri, ok := strings.CutPrefix(s, "nsu="); ok {
		if out.space.uri, s, ok = strings.Cut(uri, ";"); !ok || out.space.uri == "" {
			return out, "", false, errors.New("a name with nsu= needs a URI and a semicolon behind it: nsu=URI;Name")
		}
	} else if digits, name, ok := strings.Cut(s, ":"); ok && isNumber(digits) {
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil {
			return out, "", false, fmt.Errorf("%s is no index of a namespace: 0 to 65535", digits)
		}
		out.space.index, s = uint16(n), name
	}
	var name strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '/':
			rest, more = s[i+1:], true
		case c == '&' && i+1 == len(s):
			return out, "", false, errors.New("& stands at the end: write && for the character")
		case c == '&':
			i++
			name.WriteByte(s[i])
			continue
		default:
			name.WriteByte(c)
			continue
		}
		break
	}
	switch out.name = name.String(); {
	case out.name == "":
		return out, "", false, errors.New("a name is empty")
	case len(out.name) > maxBrowseName:
		return out, "", false, fmt.Errorf("a name has %d bytes, at most %d are allowed", len(out.name), maxBrowseName)
	}
	return out, rest, more, nil
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// namespaces are those of a server, and what an index meant when it was first used.
type namespaces struct {
	uris   []string
	pinned map[uint16]string
}

// number is the index of a space now. Index 0 is OPC UA's and 1 the server's own
// (OPC 10000-3 §8.2.2): they mean the same on each server.
func (n namespaces) number(s space) (uint16, error) {
	uri := s.uri
	if uri == "" {
		if s.index < 2 {
			return s.index, nil
		}
		if uri = n.pinned[s.index]; uri == "" || int(s.index) < len(n.uris) && n.uris[s.index] == uri {
			return s.index, nil
		}
	}
	if i := slices.Index(n.uris, uri); i >= 0 && i <= 0xFFFF {
		return uint16(i), nil
	}
	if s.uri == "" {
		return 0, fmt.Errorf("index %d was namespace %q, which the server does not have any more: name the namespace by nsu=URI", s.index, uri)
	}
	return 0, fmt.Errorf("the server has no namespace %q", uri)
}

// pin notes what the indexes of a mean, where that is not known yet.
func (n namespaces) pin(a address) {
	pin := func(s space) {
		if _, known := n.pinned[s.index]; s.uri == "" && s.index > 1 && !known && int(s.index) < len(n.uris) {
			n.pinned[s.index] = n.uris[s.index]
		}
	}
	if a.id != nil {
		pin(a.space)
	}
	for _, one := range a.path {
		pin(one.space)
	}
}

// node is the node id at a server with these namespaces, where the address has one.
func (a address) node(n namespaces) (*ua.NodeID, error) {
	index, err := n.number(a.space)
	if err != nil {
		return nil, err
	}
	if index == a.id.Namespace() {
		return a.id, nil
	}
	_, rest, ok := strings.Cut(a.id.String(), ";")
	if !ok {
		rest = a.id.String() // of namespace 0, which is left out
	}
	return ua.ParseNodeID("ns=" + strconv.Itoa(int(index)) + ";" + rest)
}

// relative is the path as a server with these namespaces understands it.
func (a address) relative(n namespaces) (*ua.BrowsePath, error) {
	p := &ua.RelativePath{}
	for _, one := range a.path {
		index, err := n.number(one.space)
		if err != nil {
			return nil, err
		}
		p.Elements = append(p.Elements, hop(id.HierarchicalReferences, index, one.name))
	}
	return &ua.BrowsePath{StartingNode: ua.NewNumericNodeID(0, id.RootFolder), RelativePath: p}, nil
}

// hop is a step along references of a type or its subtypes.
func hop(reference uint32, index uint16, name string) *ua.RelativePathElement {
	return &ua.RelativePathElement{
		ReferenceTypeID: ua.NewNumericNodeID(0, reference), IncludeSubtypes: true,
		TargetName: &ua.QualifiedName{NamespaceIndex: index, Name: name},
	}
}
