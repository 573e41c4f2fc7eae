package browse

import (
	"context"
	"slices"
	"strings"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// Bounds of what is learned of types.
const (
	maxTypes  = 2000 // data types and type definitions looked up
	maxLevels = 12   // supertypes above one
)

// types are the server's types as far as they were asked for.
type types struct {
	server *server
	texts  map[string]string     // node ids as text, kept once
	nodes  map[string]*ua.NodeID // and back
	above  map[string]string     // supertype; empty: none, or not told
	names  map[string]string     // browse names
	kinds  map[string]string     // of data types: kind of a signal
	asked  map[string]struct{}   // supertypes that were asked for
}

func newTypes(s *server) types {
	return types{
		server: s, texts: map[string]string{}, nodes: map[string]*ua.NodeID{}, above: map[string]string{}, names: map[string]string{},
		kinds: map[string]string{}, asked: map[string]struct{}{},
	}
}

// intern is a type's node id as text.
func (t *types) intern(n *ua.NodeID) string {
	key := n.String()
	if s, ok := t.texts[key]; ok {
		return s
	}
	s := t.server.text(n)
	if len(t.texts) < maxTypes {
		t.texts[key], t.nodes[s] = s, n
	}
	return s
}

// climb learns the supertypes of types, level by level, up to namespace 0.
func (t *types) climb(ctx context.Context, list []string) error {
	for range maxLevels {
		var ask []string
		for _, s := range list {
			_, was := t.asked[s]
			if n := t.nodes[s]; n != nil && !was && len(t.asked) < maxTypes && !builtIn(n) {
				t.asked[s] = struct{}{}
				ask = append(ask, s)
			}
		}
		if len(ask) == 0 {
			return nil
		}
		if err := t.supertypes(ctx, ask); err != nil {
			return err
		}
		list = list[:0:0]
		for _, s := range ask {
			if up := t.above[s]; up != "" {
				list = append(list, up)
			}
		}
	}
	return nil
}

// builtIn reports whether nothing has to be asked about a type: what it is stands
// in tables.
func builtIn(n *ua.NodeID) bool {
	return n.Namespace() == 0 && n.IntID() != 0 && kindOf(n.IntID()) != ""
}

// supertypes asks what stands above types.
func (t *types) supertypes(ctx context.Context, ask []string) error {
	for part := range slices.Chunk(ask, t.server.browseNodes) {
		req := &ua.BrowseRequest{RequestedMaxReferencesPerNode: 1, View: &ua.ViewDescription{ViewID: ua.NewTwoByteNodeID(0)}}
		for _, s := range part {
			req.NodesToBrowse = append(req.NodesToBrowse, &ua.BrowseDescription{
				NodeID: t.nodes[s], BrowseDirection: ua.BrowseDirectionInverse, ReferenceTypeID: ua.NewNumericNodeID(0, id.HasSubtype),
				ResultMask: uint32(ua.BrowseResultMaskBrowseName),
			})
		}
		resp, err := t.server.call(ctx, req)
		if refused(err) {
			continue // then they are types nobody knows
		}
		if err != nil {
			return err
		}
		r, ok := resp.(*ua.BrowseResponse)
		if !ok || len(r.Results) != len(part) {
			continue
		}
		for i, b := range r.Results {
			if b == nil || len(b.References) == 0 {
				continue
			}
			if up, ok := t.server.local(b.References[0].NodeID); ok {
				t.above[part[i]] = t.intern(up)
			}
		}
	}
	return nil
}

// is reports whether a type is another or stands below it.
func (t *types) is(one, other string) bool {
	for range maxLevels {
		if one == other {
			return true
		}
		if one = t.above[one]; one == "" {
			return false
		}
	}
	return false
}

// learn looks up what data types are.
func (t *types) learn(ctx context.Context, list []string) error {
	var fresh []string
	for _, s := range list {
		if _, known := t.kinds[s]; !known && s != "" && t.nodes[s] != nil && !slices.Contains(fresh, s) {
			fresh = append(fresh, s)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := t.climb(ctx, fresh); err != nil {
		return err
	}
	var ask []*ua.ReadValueID
	for _, s := range fresh {
		t.kinds[s] = t.kind(s)
		ask = append(ask, attribute(t.nodes[s], ua.AttributeIDBrowseName))
	}
	got, err := t.server.read(ctx, ask)
	if err != nil && !refused(err) {
		return err
	}
	for i, s := range fresh {
		if n := t.nodes[s]; n.Namespace() == 0 {
			t.names[s] = strings.TrimPrefix(id.Name(n.IntID()), "DataType_")
		}
		if i < len(got) {
			if q, ok := plain(got[i]).(*ua.QualifiedName); ok && q != nil {
				t.names[s] = cut(q.Name, maxName)
			}
		}
	}
	return nil
}

// kind is what a source file says of values of a data type.
func (t *types) kind(s string) string {
	for range maxLevels {
		if n := t.nodes[s]; n != nil && n.Namespace() == 0 {
			if k := kindOf(n.IntID()); k != "" {
				return k
			}
		}
		if s = t.above[s]; s == "" {
			break
		}
	}
	return ""
}

// kindOf is the type of a signal for a data type of namespace 0 (OPC 10000-6
// §5.1.2 and OPC 10000-5 §12); empty: it is none of these.
func kindOf(dataType uint32) string {
	switch dataType {
	case id.Boolean:
		return "bool"
	case id.SByte, id.Int16, id.Int32, id.Int64, id.Integer, id.Enumeration:
		return "int"
	case id.Byte, id.UInt16, id.UInt32, id.UInt64, id.UInteger, id.StatusCode, id.IntegerID, id.Counter:
		return "uint"
	case id.Float, id.Double, id.Number, id.Duration:
		return "double"
	case id.String, id.LocalizedText, id.QualifiedName, id.DateTime, id.UtcTime, id.GUID, id.NodeID, id.LocaleID, id.XMLElement:
		return "string"
	case id.ByteString:
		return "bytes"
	case id.Structure:
		return kindStructure
	case id.BaseDataType:
		return kindAny
	}
	return ""
}

// What no signal of a plain type is.
const (
	kindStructure = "structure"
	kindAny       = "any"
)
