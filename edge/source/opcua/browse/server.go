package browse

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// What is asked for at once where the server sets no smaller limit.
const (
	// inFlight is how many requests wait at the server at a time.
	inFlight = 2
	// nodesPerBrowse and refsPerNode together keep an answer far under the 16 MiB
	// that a channel takes: 40,000 references of some 100 bytes.
	nodesPerBrowse = 400
	refsPerNode    = 100
	refsPerStart   = 5000
	readsPerCall   = 2000
	// valuesPerCall is how many values are read at once: 64 KiB each fill an answer.
	valuesPerCall = 250
	// batches is how many browse requests one stretch of children makes.
	batches = 2 * inFlight
	// maxSpaces is how many namespaces an index can tell apart (OPC 10000-6 §5.2.2.9).
	maxSpaces = 1 << 16
)

// server is what is known of a server before the walk begins.
type server struct {
	c           Caller
	namespaces  []string
	browseNodes int
	readNodes   int
	count       *atomic.Int64
}

// meet reads the namespaces and the server's own limits (OPC 10000-5 §6.3.11). A
// limit it doesn't tell is ours.
func meet(ctx context.Context, c Caller) (server, error) {
	s := server{c: c, browseNodes: nodesPerBrowse, readNodes: readsPerCall, count: new(atomic.Int64)}
	got, err := s.read(ctx, []*ua.ReadValueID{
		value(ua.NewNumericNodeID(0, id.Server_NamespaceArray)),
		value(ua.NewNumericNodeID(0, id.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse)),
		value(ua.NewNumericNodeID(0, id.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead)),
	})
	if err != nil {
		return s, fmt.Errorf("read the namespaces: %w", err)
	}
	uris, ok := plain(got[0]).([]string)
	if !ok {
		return s, fmt.Errorf("the server gives no namespaces (%s)", statusName(got[0].Status))
	}
	for _, uri := range uris[:min(len(uris), maxSpaces)] {
		s.namespaces = append(s.namespaces, cut(uri, maxName))
	}
	for i, to := range []*int{&s.browseNodes, &s.readNodes} {
		if n, ok := plain(got[i+1]).(uint32); ok && n > 0 {
			*to = min(*to, int(n))
		}
	}
	return s, nil
}

// chunk is how many children are looked at together.
func (s *server) chunk() int { return batches * s.browseNodes }

func (s *server) requests() int {
	if s.count == nil {
		return 0
	}
	return int(s.count.Load())
}

func (s *server) call(ctx context.Context, req ua.Request) (ua.Response, error) {
	s.count.Add(1)
	return s.c.Call(ctx, req)
}

// read reads attributes, as many at once as the server takes. It gives one
// result for each.
func (s *server) read(ctx context.Context, wanted []*ua.ReadValueID) ([]*ua.DataValue, error) {
	return s.readBy(ctx, wanted, s.readNodes)
}

// readValues is read for values, which may be large.
func (s *server) readValues(ctx context.Context, wanted []*ua.ReadValueID) ([]*ua.DataValue, error) {
	return s.readBy(ctx, wanted, min(s.readNodes, valuesPerCall))
}

func (s *server) readBy(ctx context.Context, wanted []*ua.ReadValueID, most int) ([]*ua.DataValue, error) {
	out := make([]*ua.DataValue, 0, len(wanted))
	for part := range slices.Chunk(wanted, most) {
		got, err := s.readPart(ctx, part)
		if err != nil {
			return nil, err
		}
		out = append(out, got...)
	}
	return out, nil
}

// readPart is one call, or where that is too much for the server two of half.
func (s *server) readPart(ctx context.Context, part []*ua.ReadValueID) ([]*ua.DataValue, error) {
	resp, err := s.call(ctx, &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnBoth, NodesToRead: part})
	if tooMuch(err) && len(part) > 1 {
		first, err := s.readPart(ctx, part[:len(part)/2])
		if err != nil {
			return nil, err
		}
		rest, err := s.readPart(ctx, part[len(part)/2:])
		return append(first, rest...), err
	}
	if err != nil {
		return nil, err
	}
	r, ok := resp.(*ua.ReadResponse)
	if !ok || len(r.Results) != len(part) {
		return nil, fmt.Errorf("the server was asked for %d values and answered with %s", len(part), counted(resp))
	}
	for i, v := range r.Results {
		if v == nil {
			r.Results[i] = &ua.DataValue{Status: ua.StatusBadNoData}
		}
	}
	return r.Results, nil
}

func counted(r ua.Response) string {
	switch r := r.(type) {
	case *ua.ReadResponse:
		return strconv.Itoa(len(r.Results))
	case *ua.BrowseResponse:
		return strconv.Itoa(len(r.Results))
	case *ua.BrowseNextResponse:
		return strconv.Itoa(len(r.Results))
	}
	return fmt.Sprintf("%T", r)
}

func value(n *ua.NodeID) *ua.ReadValueID { return attribute(n, ua.AttributeIDValue) }

func attribute(n *ua.NodeID, a ua.AttributeID) *ua.ReadValueID {
	return &ua.ReadValueID{NodeID: n, AttributeID: a, DataEncoding: &ua.QualifiedName{}}
}

// plain is a data value's content; nil: none, or a bad one.
func plain(v *ua.DataValue) any {
	if v == nil || v.Value == nil || uint32(v.Status)&0x80000000 != 0 {
		return nil
	}
	return v.Value.Value()
}

// text is a node id as a source file takes it: with the URI of its namespace.
func (s *server) text(n *ua.NodeID) string {
	t := n.String()
	if n.Namespace() == 0 {
		return t
	}
	_, rest, _ := strings.Cut(t, ";")
	if int(n.Namespace()) >= len(s.namespaces) {
		return t // the server speaks of a namespace it doesn't list
	}
	return "nsu=" + s.namespaces[n.Namespace()] + ";" + rest
}

// uri is that of a namespace.
func (s *server) uri(ns uint16) string {
	if int(ns) >= len(s.namespaces) {
		return "ns=" + strconv.Itoa(int(ns))
	}
	return s.namespaces[ns]
}

// local is a node of this server; ok is false for one of another server.
func (s *server) local(n *ua.ExpandedNodeID) (*ua.NodeID, bool) {
	if n == nil || n.NodeID == nil || n.ServerIndex != 0 {
		return nil, false
	}
	if n.NamespaceURI == "" {
		return n.NodeID, true
	}
	at := slices.Index(s.namespaces, n.NamespaceURI)
	if at < 0 {
		return nil, false
	}
	id, err := s.parse("ns=" + strconv.Itoa(at) + ";" + identifier(n.NodeID))
	return id, err == nil
}

// identifier is a node id without its namespace.
func identifier(n *ua.NodeID) string {
	t := n.String()
	if rest, ok := strings.CutPrefix(t, "ns="); ok {
		_, t, _ = strings.Cut(rest, ";")
	}
	return t
}

// parse reads a node id as text writes it.
func (s *server) parse(text string) (*ua.NodeID, error) {
	if rest, ok := strings.CutPrefix(text, "nsu="); ok {
		at := -1
		for i, uri := range s.namespaces {
			if strings.HasPrefix(rest, uri+";") && (at < 0 || len(uri) > len(s.namespaces[at])) {
				at = i
			}
		}
		if at < 0 {
			return nil, fmt.Errorf("node %s: the server has no such namespace", text)
		}
		text = "ns=" + strconv.Itoa(at) + strings.TrimPrefix(rest, s.namespaces[at])
	}
	n, err := ua.ParseNodeID(text)
	if err != nil {
		return nil, fmt.Errorf("node %s is not nsu=URI;s=ID, ns=2;s=ID or i=85", text)
	}
	return n, nil
}

// statusName is what OPC UA calls a status; the library spells Id as ID.
func statusName(s ua.StatusCode) string {
	d, ok := ua.StatusCodes[s]
	if !ok {
		return fmt.Sprintf("0x%08X", uint32(s))
	}
	if s == ua.StatusOK {
		return "Good"
	}
	return strings.ReplaceAll(strings.TrimPrefix(d.Name, "Status"), "ID", "Id")
}

// cut is a text in a terminal: at most n bytes, and nothing that moves a cursor.
func cut(s string, n int) string {
	long := len(s) > n
	if long {
		s = s[:n]
	}
	clean := utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
	if !clean {
		s = strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return '\uFFFD'
			}
			return r
		}, strings.ToValidUTF8(s, "\uFFFD"))
	}
	if long {
		s += "…"
	}
	return s
}

// Printable is a node id, or what else a server says, for a terminal.
func Printable(s string) string { return cut(s, maxID) }
