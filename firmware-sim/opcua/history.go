package opcua

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/gopcua/opcua/ua"
)

// maxHistoryRead is the most values of one node in one answer.
const maxHistoryRead = 10_000

// historyRead reads raw values (OPC 10000-11 §6.5.3): from the start towards the
// end, which is not part of what is read, forwards or backwards; one of the two
// may be missing where a number of values is asked for. A node keeps its last
// 10,000 values; a range that has none of them gives Good_NoData.
func (s *Server) historyRead(q *ua.HistoryReadRequest) ua.Response {
	if s.cfg.Forgetful {
		return s.fault(q.RequestHeader, ua.StatusBadServiceUnsupported)
	}
	var d *ua.ReadRawModifiedDetails
	if q.HistoryReadDetails != nil {
		d, _ = q.HistoryReadDetails.Value.(*ua.ReadRawModifiedDetails)
	}
	if d == nil || d.IsReadModified {
		return s.fault(q.RequestHeader, ua.StatusBadHistoryOperationUnsupported)
	}
	r, ok := rangeOf(d)
	if !ok {
		return s.fault(q.RequestHeader, ua.StatusBadInvalidTimestampArgument)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	results := make([]*ua.HistoryReadResult, len(q.NodesToRead))
	for i, want := range q.NodesToRead {
		n := s.signal(want.NodeID)
		if n == nil {
			results[i] = &ua.HistoryReadResult{StatusCode: ua.StatusBadNodeIDUnknown, HistoryData: ua.NewExtensionObject(nil)}
			continue
		}
		results[i] = n.read(r, want.ContinuationPoint)
	}
	return &ua.HistoryReadResponse{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusOK), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

// stretch is what a history read asks for.
type stretch struct {
	from, to int64 // from is part of it, to is not
	back     bool  // from the newest to the oldest
	most     int
}

// rangeOf reads the times of a request. The least time a client can write means
// that it names none.
func rangeOf(d *ua.ReadRawModifiedDetails) (r stretch, ok bool) {
	named := func(t time.Time) bool { return t.Year() > 1601 }
	r = stretch{from: math.MinInt64, to: math.MaxInt64, most: maxHistoryRead}
	if d.NumValuesPerNode > 0 {
		r.most = int(min(d.NumValuesPerNode, maxHistoryRead))
	}
	start, end := named(d.StartTime), named(d.EndTime)
	switch {
	case start && end && !d.EndTime.Equal(d.StartTime):
		r.from, r.to = d.StartTime.UnixNano(), d.EndTime.UnixNano()
		if r.back = r.from > r.to; r.back { // the start is part of it, the end is not
			r.from, r.to = r.to+1, r.from+1
		}
	case start && end: // the values of one instant
		r.from, r.to = d.StartTime.UnixNano(), d.StartTime.UnixNano()+1
	case d.NumValuesPerNode == 0:
		return r, false // neither bounded in time nor in number
	case start:
		r.from = d.StartTime.UnixNano()
	case end:
		r.to, r.back = d.EndTime.UnixNano()+1, true
	default:
		return r, false
	}
	return r, true
}

// read gives one page. A continuation point is the index of the last emission
// given and its time: the order is (time, index).
func (n *node) read(r stretch, after []byte) *ua.HistoryReadResult {
	order := inOrder
	if r.back {
		order = func(a, b *held) int { return inOrder(b, a) }
	}
	var last *held
	if len(after) == 16 {
		last = &held{at: int64(binary.LittleEndian.Uint64(after)), index: binary.LittleEndian.Uint64(after[8:])}
	}
	var page []*held
	for _, h := range n.history.rest() {
		if h.at >= r.from && h.at < r.to && (last == nil || order(last, h) < 0) {
			page = append(page, h)
		}
	}
	slices.SortFunc(page, order)
	res := &ua.HistoryReadResult{}
	if len(page) > r.most {
		page = page[:r.most]
		res.ContinuationPoint = binary.LittleEndian.AppendUint64(nil, uint64(page[r.most-1].at))
		res.ContinuationPoint = binary.LittleEndian.AppendUint64(res.ContinuationPoint, page[r.most-1].index)
	}
	if len(page) == 0 {
		res.StatusCode = ua.StatusGoodNoData
	}
	data := &ua.HistoryData{DataValues: make([]*ua.DataValue, len(page))}
	for i, h := range page {
		data.DataValues[i] = h.dataValue()
	}
	res.HistoryData = ua.NewExtensionObject(data)
	return res
}

func inOrder(a, b *held) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.index, b.index))
}

// read answers Read in the server's time.
func (s *Server) read(q *ua.ReadRequest) ua.Response {
	results := make([]*ua.DataValue, len(q.NodesToRead))
	for i, want := range q.NodesToRead {
		results[i] = s.attribute(want.NodeID, want.AttributeID)
	}
	return &ua.ReadResponse{ResponseHeader: s.header(q.RequestHeader, ua.StatusOK), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

func (s *Server) attribute(id *ua.NodeID, attr ua.AttributeID) *ua.DataValue {
	if attr != ua.AttributeIDValue {
		return s.space.attribute(id, attr)
	}
	began, now := s.times()
	if n := s.signal(id); n != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if n.newest == nil {
			return bad(ua.StatusBadWaitingForInitialData)
		}
		return n.newest.dataValue()
	}
	if v := s.space.value(id, began, now); v != nil {
		return v
	}
	return bad(ua.StatusBadNodeIDUnknown)
}

func bad(code ua.StatusCode) *ua.DataValue {
	return &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: code}
}

// write refuses: a plant is not changed from here.
func (s *Server) write(q *ua.WriteRequest) ua.Response {
	results := make([]ua.StatusCode, len(q.NodesToWrite))
	for i := range results {
		results[i] = ua.StatusBadNotWritable
	}
	return &ua.WriteResponse{ResponseHeader: s.header(q.RequestHeader, ua.StatusOK), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

// signal is the node with this id, or nil.
func (s *Server) signal(id *ua.NodeID) *node {
	if id.Namespace() != nsOwn || id.Type() != ua.NodeIDTypeString {
		return nil
	}
	return s.nodes[id.StringID()]
}
