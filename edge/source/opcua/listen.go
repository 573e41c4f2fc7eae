package opcua

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua/channel"
	"plantmesh/proto/mesh"
)

// listen makes the monitored items of the notifiers. It comes before those of
// signals, whose end says that all were made.
func (r *Reader) listen(ctx context.Context) error {
	r.state.Events = nil
	for n := range r.cfg.Events {
		st, err := r.listenTo(ctx, n)
		if err != nil {
			return err
		}
		r.state.Events = append(r.state.Events, st)
	}
	return nil
}

// listenTo makes the item of one notifier.
func (r *Reader) listenTo(ctx context.Context, n int) (st eventState, err error) {
	i := len(r.cfg.Signals) + n
	at, types, err := r.notifier(&r.cfg.Events[n])
	if err != nil {
		r.refuse(i, err)
		return st, nil
	}
	clauses := r.ears.clauses[n]
	st, refused, err := agree(filter(types), clauses, func(f *ua.EventFilter) (*ua.MonitoredItemCreateResult, error) { return r.eventItem(ctx, i, at, f) })
	switch {
	case err != nil:
		return st, err
	case refused != ua.StatusOK:
		r.refuse(i, refused)
	default:
		st.Own = ownHash(clauses)
		r.tellLacks(n, st)
	}
	return st, nil
}

// agree finds the filter that a server takes. They differ in what they do of one
// they don't like: some take it and say which clauses they don't have, some refuse
// the item and say which, and some say nothing. Tried are, in this order, all;
// without the clauses it names; without those that are not the standard's; without the
// filter by type; and what every event has.
func agree(where *where, clauses []clause, ask func(f *ua.EventFilter) (*ua.MonitoredItemCreateResult, error)) (st eventState, refused ua.StatusCode, err error) {
	st.Clauses = 1<<len(clauses) - 1
	for {
		res, err := ask(&ua.EventFilter{SelectClauses: selected(clauses, st.Clauses), WhereClause: where.content()})
		if err != nil {
			return st, ua.StatusOK, err
		}
		said, _ := filterResult(res)
		lacks := st.lacking(said)
		if uint32(res.StatusCode)&0xC0000000 == 0 {
			if lacks&(1<<atConditionName) == 0 {
				// node-opcua 2.182.2 says of the node id, which is no component, that it doesn't have it, and gives it.
				lacks &^= 1 << atCondition
			}
			st.Lacks |= lacks
			st.Unfiltered = st.Unfiltered || whereRefused(said)
			return st, ua.StatusOK, nil
		}
		switch {
		case lacks != 0 && lacks != st.Clauses:
			st.Clauses, st.Lacks = st.Clauses&^lacks, st.Lacks|lacks
		case st.Clauses&^standard != 0:
			st.Lacks |= st.Clauses &^ standard
			st.Clauses &= standard
		case where != nil:
			where, st.Unfiltered = nil, true
		case st.Clauses&^basic != 0:
			st.Lacks |= st.Clauses &^ basic
			st.Clauses &= basic
		default:
			return eventState{}, res.StatusCode, nil
		}
	}
}

// surveyEvents notes the server's namespaces for events, and what indexes of them mean.
func (r *Reader) surveyEvents(n namespaces) {
	r.ears.spaces = n
	for _, e := range r.cfg.Events {
		for _, text := range append([]string{e.Node}, e.Types...) {
			if a, err := parseNode(text); err == nil {
				n.pin(a)
			}
		}
	}
}

// notifier is where a notifier and the types of its filter are on this server.
func (r *Reader) notifier(e *Events) (at *ua.NodeID, types []*ua.NodeID, err error) {
	for i, text := range append([]string{e.Node}, e.Types...) {
		a, err := parseNode(text)
		if err != nil {
			return nil, nil, err
		}
		n, err := a.node(r.ears.spaces)
		switch {
		case err != nil:
			return nil, nil, err
		case i == 0:
			at = n
		default:
			types = append(types, n)
		}
	}
	return at, types, nil
}

// eventItem asks for one item. Its result may say that it was refused.
func (r *Reader) eventItem(ctx context.Context, i int, at *ua.NodeID, f *ua.EventFilter) (*ua.MonitoredItemCreateResult, error) {
	r.initial[i] = false
	c, err := call[*ua.CreateMonitoredItemsResponse](ctx, &r.sess, &ua.CreateMonitoredItemsRequest{
		SubscriptionID: r.state.Subscription, TimestampsToReturn: ua.TimestampsToReturnBoth,
		ItemsToCreate: []*ua.MonitoredItemCreateRequest{{
			ItemToMonitor:  &ua.ReadValueID{NodeID: at, AttributeID: ua.AttributeIDEventNotifier, DataEncoding: &ua.QualifiedName{}},
			MonitoringMode: ua.MonitoringModeReporting,
			RequestedParameters: &ua.MonitoringParameters{
				ClientHandle: r.state.handle(i, 0), QueueSize: r.cfg.QueueSize, DiscardOldest: true, Filter: ua.NewExtensionObject(f),
			},
		}},
	})
	code, refused := refusal(err)
	switch {
	case refused && (code == ua.StatusBadSubscriptionIDInvalid || sessionLost(code)):
		return nil, fmt.Errorf("%w: create an event item: %w", errGone, code)
	case refused:
		return &ua.MonitoredItemCreateResult{StatusCode: code}, nil
	case err != nil:
		return nil, fmt.Errorf("create an event item: %w", err)
	case len(c.Results) != 1 || c.Results[0] == nil:
		return nil, fmt.Errorf("the server answered an event item with %d results", len(c.Results))
	}
	if q := c.Results[0].RevisedQueueSize; q < r.cfg.QueueSize && c.Results[0].StatusCode == ua.StatusOK {
		r.log.Info("the server keeps fewer events than asked for", "signal", r.table[i].Name, "queue_size", q, "asked", r.cfg.QueueSize)
	}
	return c.Results[0], nil
}

// selected are the select clauses of a filter.
func selected(clauses []clause, asked uint64) (out []*ua.SimpleAttributeOperand) {
	for place, c := range clauses {
		if asked&(1<<place) != 0 {
			out = append(out, c.operand())
		}
	}
	return out
}

func (c clause) operand() *ua.SimpleAttributeOperand {
	if c.own != nil {
		return &ua.SimpleAttributeOperand{TypeDefinitionID: c.own.Of, BrowsePath: []*ua.QualifiedName{c.own.Name}, AttributeID: ua.AttributeIDValue}
	}
	o := &ua.SimpleAttributeOperand{TypeDefinitionID: ua.NewNumericNodeID(0, c.of), BrowsePath: []*ua.QualifiedName{}, AttributeID: ua.AttributeIDValue}
	for _, name := range c.path {
		o.BrowsePath = append(o.BrowsePath, &ua.QualifiedName{Name: name})
	}
	if len(c.path) == 0 { // OPC 10000-9 §5.5.2: ConditionId is the node id of the instance
		o.AttributeID = ua.AttributeIDNodeID
	}
	return o
}

// called is what the protocol calls it.
func (c clause) called() string {
	switch {
	case c.own != nil:
		return c.field
	case len(c.path) == 0:
		return "ConditionId"
	}
	return strings.Join(c.path, "/")
}

func filterResult(res *ua.MonitoredItemCreateResult) (*ua.EventFilterResult, bool) {
	if res.FilterResult == nil {
		return nil, false
	}
	said, ok := res.FilterResult.Value.(*ua.EventFilterResult)
	return said, ok
}

// lacking are the clauses that the server says it doesn't have.
func (st *eventState) lacking(said *ua.EventFilterResult) (lacks uint64) {
	if said == nil || len(said.SelectClauseResults) != bits.OnesCount64(st.Clauses) {
		return 0
	}
	k := 0
	for place := range countClauses + maxOwn {
		if st.Clauses&(1<<place) == 0 {
			continue
		}
		if uint32(said.SelectClauseResults[k])&bad != 0 {
			lacks |= 1 << place
		}
		k++
	}
	return lacks
}

// bad is the severity bit of a StatusCode (OPC 10000-4 §7.39).
const bad = uint32(1 << 31)

func whereRefused(said *ua.EventFilterResult) bool {
	if said == nil || said.WhereClauseResult == nil {
		return false
	}
	return slices.ContainsFunc(said.WhereClauseResult.ElementResults, func(e *ua.ContentFilterElementResult) bool {
		return e != nil && uint32(e.StatusCode)&bad != 0
	})
}

// where is a filter by type, being built: elements refer to others by
// their places.
type where struct{ elements []element }

type element struct {
	operator ua.FilterOperator
	operands []any // other elements' places (int) or a literal
}

func (w *where) add(op ua.FilterOperator, operands ...any) int {
	w.elements = append(w.elements, element{op, operands})
	return len(w.elements) - 1
}

// filter lets through events of these types, and the protocol's own: those should
// pass any filter (OPC 10000-9 §4.5), but don't everywhere. nil: everything. There is
// none by severity, because what ends a condition is often of a lower one.
func filter(types []*ua.NodeID) *where {
	if len(types) == 0 {
		return nil
	}
	types = slices.Clone(types)
	for _, n := range []uint32{typeRefreshStart, typeRefreshEnd, typeRefreshRequired, typeOverflow} {
		types = append(types, ua.NewNumericNodeID(0, n))
	}
	w := &where{}
	last := -1
	for _, t := range types {
		one := w.add(ua.FilterOperatorOfType, t)
		if last >= 0 {
			one = w.add(ua.FilterOperatorOr, last, one)
		}
		last = one
	}
	return w
}

// content is the filter as it is sent: the last element first, because elements
// refer to later ones only (OPC 10000-4 §7.7.1).
func (w *where) content() *ua.ContentFilter {
	out := &ua.ContentFilter{}
	if w == nil {
		return out
	}
	for _, e := range slices.Backward(w.elements) {
		x := &ua.ContentFilterElement{FilterOperator: e.operator}
		for _, o := range e.operands {
			var operand any
			if place, ok := o.(int); ok {
				operand = &ua.ElementOperand{Index: uint32(len(w.elements) - 1 - place)}
			} else {
				operand = &ua.LiteralOperand{Value: ua.MustVariant(o)}
			}
			x.FilterOperands = append(x.FilterOperands, ua.NewExtensionObject(operand))
		}
		out.Elements = append(out.Elements, x)
	}
	return out
}

// tellLacks logs what a notifier's events will be without.
func (r *Reader) tellLacks(n int, st eventState) {
	if text := r.lacks(n, st); text != "" {
		r.log.Warn("the server does not give all that was asked for of events", "signal", r.cfg.Events[n].Name, "what", text)
	}
}

// lacks is what a notifier's events are without, in words; "" is nothing.
func (r *Reader) lacks(n int, st eventState) string {
	var without []string
	for place, c := range r.ears.clauses[n] {
		if st.Lacks&(1<<place) != 0 && len(without) < maxNamed {
			without = append(without, c.called())
		}
	}
	var texts []string
	if len(without) > 0 {
		texts = append(texts, "without "+strings.Join(without, ", "))
	}
	if st.Unfiltered && len(r.cfg.Events[n].Types) > 0 {
		texts = append(texts, "of all types, because it takes no filter")
	}
	return strings.Join(texts, ", and ")
}

// heard is what is to be said of events while the reader publishes.
func (r *Reader) heard() string {
	var texts []string
	for n, st := range r.state.Events {
		if text := r.lacks(n, st); text != "" && n < len(r.cfg.Events) {
			texts = append(texts, "events of "+r.cfg.Events[n].Name+" come "+text)
		}
	}
	if r.ears.mute != "" {
		texts = append(texts, "the server doesn't tell the states of its conditions again ("+r.ears.mute+")")
	}
	if len(texts) == 0 {
		return ""
	}
	return "; " + strings.Join(texts[:min(len(texts), maxNamed)], "; ")
}

// refresh asks the server for the states of all conditions, once after each
// connect: what a condition became while nobody listened no event tells (OPC
// 10000-9 §5.5.7). A server without conditions refuses, which is no harm.
func (r *Reader) refresh(ctx context.Context) error {
	if !r.ears.due {
		return nil
	}
	r.ears.due = false
	if !slices.ContainsFunc(r.state.Events, func(st eventState) bool { return st.Clauses&^st.Lacks&(1<<atCondition) != 0 }) {
		return nil // it knows no conditions
	}
	c, err := call[*ua.CallResponse](ctx, &r.sess, &ua.CallRequest{MethodsToCall: []*ua.CallMethodRequest{{
		ObjectID: ua.NewNumericNodeID(0, id.ConditionType), MethodID: ua.NewNumericNodeID(0, id.ConditionType_ConditionRefresh),
		InputArguments: []*ua.Variant{ua.MustVariant(r.state.Subscription)},
	}}})
	code, refused := refusal(err)
	switch {
	case err == nil && len(c.Results) == 1 && c.Results[0] != nil:
		code = c.Results[0].StatusCode
	case errors.Is(err, channel.ErrTimeout):
		code = ua.StatusBadTimeout
	case err != nil && !refused:
		return fmt.Errorf("refresh the conditions: %w", err)
	}
	if uint32(code)&0xC0000000 == 0 || code == ua.StatusBadRefreshInProgress {
		r.ears.mute = ""
		return nil
	}
	r.ears.mute = statusName(mesh.Status(code))
	r.log.Info("the server doesn't tell the states of its conditions again", "status", r.ears.mute)
	if !r.doubted {
		source.Tell(r.out, r.connected())
	}
	return nil
}
