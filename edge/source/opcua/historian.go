package opcua

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/channel"
	"plantmesh/proto/mesh"
)

// historian reads a server's history, beside the reader.
type historian struct {
	ch     *channel.Channel
	token  *ua.NodeID
	names  []string // of the signals
	out    chan<- found
	settle time.Duration // until late values are in the history
	deaf   string        // what has no history whatever the server offers; "" is nothing

	nodes []*ua.NodeID
	size  int // nodes in a call
	reads int // attributes in a call
	calls int
	count int
	until time.Time // machine time
	lacks lacks
}

// lacks are why a gap is not filled, or not from its beginning on.
type lacks struct {
	of    map[int]bool // signals that something is wrong with
	count int          // why it is not filled
	texts []string
}

// signal notes what is wrong with a signal, once.
func (l *lacks) signal(i int, text string) {
	if !l.of[i] {
		l.of[i] = true
		l.add(text)
	}
}

func (l *lacks) add(text string) {
	l.count++
	l.say(text)
}

// say notes why a gap is filled from later on only.
func (l *lacks) say(text string) {
	if len(l.texts) < maxNamed {
		l.texts = append(l.texts, text)
	}
}

func (l *lacks) String() string {
	text := strings.Join(l.texts, "; ")
	if more := l.count - len(l.texts); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// errBudget: more history than is read at once.
var errBudget = errors.New("there is more of it than is read for one gap")

// historian is one for the connection at hand.
func (r *Reader) historian() *historian {
	h := &historian{reads: r.limits.read, ch: r.sess.ch, token: r.sess.token, out: r.past.finds, settle: min(time.Duration(r.cfg.Disorder), longestSettle)}
	for _, s := range r.table {
		h.names = append(h.names, s.Name)
	}
	if n := len(r.cfg.Events); n > 0 {
		h.deaf = "events have none that is read"
	}
	return h
}

// answer reads what the reader asks for until ctx ends.
func (h *historian) answer(ctx context.Context, asks <-chan gap) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case g := <-asks:
			f, err := h.fill(ctx, g)
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("read the history: %w", err)
			}
			h.give(ctx, f)
		}
	}
}

func (h *historian) give(ctx context.Context, f found) {
	select {
	case h.out <- f:
	case <-ctx.Done():
	}
}

// fill reads a gap: first of which signals the server has a history that reaches
// back far enough, then slice by slice. An error ends the connection.
func (h *historian) fill(ctx context.Context, g gap) (f found, err error) {
	h.nodes, h.size, h.calls, h.count = g.nodes, pastNodes, 0, 0
	h.until = time.Now().Add(maxPastTime)
	h.lacks = lacks{of: map[int]bool{}}
	if h.deaf != "" && !g.some {
		h.lacks.add(h.deaf)
	}
	f.end = true
	which, err := h.offered(ctx)
	if err == nil && len(which) > 0 {
		pause(ctx, h.settle)
		f.from, err = h.reaches(ctx, g.span, which)
		if err == nil {
			f.from, err = h.slices(ctx, g.span, which, f.from)
		}
	}
	if err != nil {
		code, refused := refusal(err)
		switch {
		case refused && !sessionLost(code):
			h.lacks.add("the server gives no history: " + statusName(mesh.Status(code)))
		case errors.Is(err, errBudget) || errors.Is(err, channel.ErrTimeout):
			h.lacks.add(err.Error())
		default:
			return f, err
		}
	}
	f.whole, f.lacks = err == nil && f.from > 0, h.lacks.String()
	return f, nil
}

// slices reads the signals' values. It returns from where on they were all read; 0:
// some were not.
func (h *historian) slices(ctx context.Context, span mesh.Span, which []int, from mesh.Nanos) (mesh.Nanos, error) {
	long := firstSlice
	for at := span.From; at < span.To; long = min(2*long, longestSlice) {
		to := min(at.Add(long), span.To)
		if at < from && from < to {
			to = from // what is proven begins with a slice
		}
		before := h.lacks.count
		err := inCalls(&h.size, which, func(some []int) error { return h.pages(ctx, some, mesh.Span{From: at, To: to}) })
		if err != nil {
			return from, err
		}
		if h.lacks.count > before {
			from = 0
		}
		if from > 0 && to > from {
			h.give(ctx, found{from: from, through: to, lacks: h.lacks.String()})
		}
		at = to
	}
	return from, nil
}

// pages reads all values of some signals in a stretch.
func (h *historian) pages(ctx context.Context, some []int, span mesh.Span) error {
	d := &ua.ReadRawModifiedDetails{StartTime: span.From.Time(), EndTime: span.To.Time(), NumValuesPerNode: pastPage}
	points := map[int][]byte{}
	for len(some) > 0 {
		results, err := h.ask(ctx, d, some, points, false)
		if err != nil {
			return err
		}
		var more, alone []int
		for k, res := range results {
			i := some[k]
			switch values, ok := valuesOf(res); {
			case res != nil && res.StatusCode == ua.StatusBadNoContinuationPoints && len(some) > 1:
				alone = append(alone, i)
			case !ok:
				h.lacks.signal(i, fmt.Sprintf("its history of %s can't be read: %s", h.names[i], resultName(res)))
			default:
				h.give(ctx, found{signal: i, values: h.placed(i, values, span)})
				if points[i] = res.ContinuationPoint; len(points[i]) > 0 {
					more = append(more, i)
				}
			}
		}
		for _, i := range alone { // it keeps few places to go on from
			h.size = 1
			if err := h.pages(ctx, []int{i}, span); err != nil {
				return err
			}
		}
		some = more
	}
	return nil
}

// placed are the values that lie in the stretch. Those of no time can't be placed.
func (h *historian) placed(i int, values []*ua.DataValue, span mesh.Span) []*ua.DataValue {
	h.count += len(values)
	out := values[:0]
	for _, v := range values {
		at := timeOf(v)
		if at == 0 {
			h.lacks.signal(i, "its history of "+h.names[i]+" has values without a time")
		}
		if at >= span.From && at <= span.To {
			out = append(out, v)
		}
	}
	return out
}

// timeOf is the event time of a value as its sample will have it; 0: none.
func timeOf(v *ua.DataValue) mesh.Nanos {
	switch {
	case v == nil:
		return 0
	case !v.SourceTimestamp.IsZero():
		return mesh.NanosOf(v.SourceTimestamp)
	case !v.ServerTimestamp.IsZero():
		return mesh.NanosOf(v.ServerTimestamp)
	}
	return 0
}

// ask makes one call. With release it gives places to go on from back instead.
func (h *historian) ask(ctx context.Context, d *ua.ReadRawModifiedDetails, some []int, points map[int][]byte, release bool) ([]*ua.HistoryReadResult, error) {
	if h.calls++; h.calls > maxPastCalls || h.count > maxPastValues || time.Now().After(h.until) {
		return nil, fmt.Errorf("the server's history: %w (%d values in %d calls)", errBudget, h.count, h.calls)
	}
	req := &ua.HistoryReadRequest{
		HistoryReadDetails: ua.NewExtensionObject(d), TimestampsToReturn: ua.TimestampsToReturnBoth, ReleaseContinuationPoints: release,
	}
	for _, i := range some {
		req.NodesToRead = append(req.NodesToRead, &ua.HistoryReadValueID{NodeID: h.nodes[i], DataEncoding: &ua.QualifiedName{}, ContinuationPoint: points[i]})
	}
	a, err := callAs[*ua.HistoryReadResponse](ctx, h.ch, h.token, req)
	if err != nil {
		return nil, err
	}
	if len(a.Results) != len(some) && !release {
		return nil, fmt.Errorf("the server answered the history of %d nodes with %d results", len(some), len(a.Results))
	}
	return a.Results, nil
}

// valuesOf are the values in a result; ok is false where it has none and should.
func valuesOf(res *ua.HistoryReadResult) (values []*ua.DataValue, ok bool) {
	if res == nil || uint32(res.StatusCode)&bad != 0 && res.StatusCode != ua.StatusBadNoData {
		return nil, false
	}
	if res.HistoryData == nil || res.HistoryData.Value == nil {
		return nil, true
	}
	d, ok := res.HistoryData.Value.(*ua.HistoryData)
	if !ok {
		return nil, false
	}
	return d.DataValues, true
}

func resultName(res *ua.HistoryReadResult) string {
	if res == nil || uint32(res.StatusCode)&bad == 0 {
		return "the server gives something else"
	}
	return statusName(mesh.Status(res.StatusCode))
}

// offered are the signals that the server keeps a history of, and lets us read.
func (h *historian) offered(ctx context.Context) (which []int, err error) {
	var wanted []*ua.ReadValueID
	var whose []int
	for i, n := range h.nodes {
		if n == nil {
			continue
		}
		whose = append(whose, i)
		wanted = append(wanted, attribute(n, ua.AttributeIDUserAccessLevel), attribute(n, ua.AttributeIDHistorizing))
	}
	values, err := h.attributes(ctx, wanted)
	if err != nil {
		return nil, err
	}
	for k, i := range whose {
		level, _ := scalarOf[uint8](values[2*k])
		keeps, known := scalarOf[bool](values[2*k+1])
		if level&uint8(ua.AccessLevelTypeHistoryRead) == 0 || known && !keeps {
			h.lacks.signal(i, "it offers no history of "+h.names[i])
			continue
		}
		which = append(which, i)
	}
	return which, nil
}

func (h *historian) attributes(ctx context.Context, wanted []*ua.ReadValueID) (out []*ua.DataValue, err error) {
	err = inCalls(&h.reads, wanted, func(some []*ua.ReadValueID) error {
		a, err := callAs[*ua.ReadResponse](ctx, h.ch, h.token, &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnNeither, NodesToRead: some})
		if err == nil && len(a.Results) != len(some) {
			err = fmt.Errorf("the server answered %d reads with %d results", len(some), len(a.Results))
		}
		if err == nil {
			out = append(out, a.Results...)
		}
		return err
	})
	return out, err
}

// reaches is from when on the history has everything: a history that has a value
// from before the gap has lost none of the gap, because the oldest go first. While
// the server did not run it kept nothing. 0: some signals have no history.
func (h *historian) reaches(ctx context.Context, span mesh.Span, which []int) (mesh.Nanos, error) {
	from := span.From
	values, err := h.attributes(ctx, []*ua.ReadValueID{attribute(ua.NewNumericNodeID(0, id.Server_ServerStatus), ua.AttributeIDValue)})
	if err != nil {
		return 0, err
	}
	if status, ok := objectOf[*ua.ServerStatusDataType](values[0]); ok && !status.StartTime.IsZero() {
		if began := mesh.NanosOf(status.StartTime); began > from {
			from = began
			h.lacks.say("it started at " + began.String())
		}
	} else {
		h.lacks.add("it doesn't say since when it runs")
	}
	whole := h.lacks.count == 0
	short, err := h.bounds(ctx, &ua.ReadRawModifiedDetails{EndTime: span.From.Time(), NumValuesPerNode: 1}, which)
	if err != nil {
		return 0, err
	}
	for i, at := range short {
		if at > span.From {
			delete(short, i) // it doesn't look at what it was asked
		}
	}
	begins, err := h.bounds(ctx, &ua.ReadRawModifiedDetails{StartTime: span.From.Time(), EndTime: span.To.Time(), NumValuesPerNode: 1}, keys(which, short, 0))
	if err != nil {
		return 0, err
	}
	for _, i := range which {
		if short[i] != 0 {
			continue
		}
		began := begins[i]
		if began == 0 {
			began = span.To
		}
		if began > from {
			from = began
			h.lacks.say("its history of " + h.names[i] + " begins at " + began.String())
		}
	}
	if !whole {
		return 0, nil
	}
	return from, nil
}

// keys are those of which whose value is this.
func keys(which []int, of map[int]mesh.Nanos, value mesh.Nanos) (out []int) {
	for _, i := range which {
		if of[i] == value {
			out = append(out, i)
		}
	}
	return out
}

// bounds are the times of the one value asked for of each signal; 0: there is none.
func (h *historian) bounds(ctx context.Context, d *ua.ReadRawModifiedDetails, which []int) (map[int]mesh.Nanos, error) {
	out := map[int]mesh.Nanos{}
	err := inCalls(&h.size, which, func(some []int) error {
		results, err := h.ask(ctx, d, some, nil, false)
		if err != nil {
			return err
		}
		points, left := map[int][]byte{}, []int(nil)
		for k, res := range results {
			if values, ok := valuesOf(res); ok && len(values) > 0 {
				out[some[k]] = timeOf(values[0])
			}
			if res != nil && len(res.ContinuationPoint) > 0 {
				points[some[k]], left = res.ContinuationPoint, append(left, some[k])
			}
		}
		if len(left) > 0 {
			_, err = h.ask(ctx, d, left, points, true)
		}
		return err
	})
	return out, err
}
