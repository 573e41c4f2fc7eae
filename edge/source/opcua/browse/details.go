package browse

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"
	"golang.org/x/sync/errgroup"
)

// maxShown is how much of a value is shown, in bytes.
const maxShown = 200

// questions are attributes to read, and what is done with the answers.
type questions struct {
	ask  []*ua.ReadValueID
	take []func(*ua.DataValue)
}

func (q *questions) add(id *ua.NodeID, a ua.AttributeID, take func(*ua.DataValue)) {
	q.ask, q.take = append(q.ask, attribute(id, a)), append(q.take, take)
}

// details reads what variables of a stretch are.
func (w *walker) details(ctx context.Context, list []Node) error {
	var facts, values questions
	for i := range list {
		n := &list[i]
		if n.Class != classVariable || !n.Picked {
			continue
		}
		facts.add(n.node, ua.AttributeIDDataType, func(v *ua.DataValue) {
			if t, ok := plain(v).(*ua.NodeID); ok && t != nil {
				n.DataType = w.types.intern(t)
			}
		})
		facts.add(n.node, ua.AttributeIDValueRank, func(v *ua.DataValue) {
			rank, ok := plain(v).(int32)
			n.Array = ok && rank >= 0 // OPC 10000-3 §5.6.2: 0 and more are arrays
		})
		facts.add(n.node, ua.AttributeIDUserAccessLevel, func(v *ua.DataValue) { n.Access = access(v) })
		if n.unit != nil {
			facts.add(n.unit, ua.AttributeIDValue, func(v *ua.DataValue) { n.Unit = unitOf(v) })
		}
		if w.cfg.Values {
			values.add(n.node, ua.AttributeIDValue, func(v *ua.DataValue) { n.Value = shown(v) })
		}
	}
	if err := w.answer(ctx, &facts, w.server.readNodes); err != nil {
		return err
	}
	if err := w.answer(ctx, &values, min(w.server.readNodes, valuesPerCall)); err != nil {
		return err
	}
	return w.named(ctx, list)
}

// answer reads what is asked for, some requests at a time.
func (w *walker) answer(ctx context.Context, q *questions, most int) error {
	got := make([]*ua.DataValue, len(q.ask))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for from := 0; from < len(q.ask); from += most {
		to := min(from+most, len(q.ask))
		g.Go(func() error {
			part, err := w.server.readPart(gctx, q.ask[from:to])
			copy(got[from:to], part)
			return err
		})
	}
	err := g.Wait()
	if refused(err) {
		w.note("what variables are could not be read: %v", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what variables are: %w", err)
	}
	for i, f := range q.take {
		f(got[i])
	}
	return nil
}

// named puts data types in words.
func (w *walker) named(ctx context.Context, list []Node) error {
	var fresh []string
	for i := range list {
		if t := list[i].DataType; t != "" && (len(fresh) == 0 || fresh[len(fresh)-1] != t) {
			fresh = append(fresh, t)
		}
	}
	if err := w.types.learn(ctx, fresh); err != nil {
		return fmt.Errorf("read what data types are: %w", err)
	}
	for i := range list {
		n := &list[i]
		if n.DataType == "" {
			continue
		}
		t := n.DataType
		n.Kind = w.types.kinds[t]
		if name := w.types.names[t]; name != "" {
			n.DataType = name
		}
	}
	return nil
}

// access is what the login may do with a variable (OPC 10000-3 §8.57).
func access(v *ua.DataValue) string {
	level, ok := plain(v).(uint8)
	if !ok {
		return ""
	}
	out := ""
	if level&uint8(ua.AccessLevelTypeCurrentRead) != 0 {
		out += "r"
	}
	if level&uint8(ua.AccessLevelTypeCurrentWrite) != 0 {
		out += "w"
	}
	if out == "" {
		return "-"
	}
	return out
}

// unece is the namespace of units by their UNECE code (OPC 10000-8 §5.6.3).
const unece = "http://www.opcfoundation.org/UA/units/un/cefact"

// unitOf is the common code of a unit where it has one, else what the server
// calls it.
func unitOf(v *ua.DataValue) string {
	o, ok := plain(v).(*ua.ExtensionObject)
	if !ok || o == nil {
		return ""
	}
	u, ok := o.Value.(*ua.EUInformation)
	if !ok || u == nil {
		return ""
	}
	name := ""
	if u.DisplayName != nil {
		name = cut(u.DisplayName.Text, 32)
	}
	if u.NamespaceURI != unece {
		return name
	}
	// The code's letters are the bytes of the number, the first one highest.
	code := strings.TrimLeft(string([]byte{byte(u.UnitID >> 24), byte(u.UnitID >> 16), byte(u.UnitID >> 8), byte(u.UnitID)}), "\x00")
	if len(code) < 2 || len(code) > 3 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
		return name
	}
	return code
}

// shown is a value for people.
func shown(v *ua.DataValue) *Value {
	out := &Value{Status: statusName(v.Status), Text: Say(v.Value)}
	for _, t := range []struct {
		from time.Time
		to   **time.Time
	}{{v.SourceTimestamp, &out.Source}, {v.ServerTimestamp, &out.Server}} {
		if !t.from.IsZero() {
			at := t.from.UTC()
			*t.to = &at
		}
	}
	return out
}

// Say is a variant in words, in at most 200 bytes.
func Say(v *ua.Variant) string {
	if v == nil || v.Value() == nil {
		return ""
	}
	switch x := v.Value().(type) {
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64)
	case float32:
		return strconv.FormatFloat(float64(x), 'g', -1, 32)
	case string:
		return cut(x, maxShown)
	case time.Time:
		return x.UTC().Format(time.RFC3339Nano)
	case []byte:
		return fmt.Sprintf("%d bytes", len(x))
	case *ua.LocalizedText:
		return cut(x.Text, maxShown)
	case *ua.QualifiedName:
		return cut(x.Name, maxShown)
	case *ua.NodeID:
		return cut(x.String(), maxShown)
	case *ua.ExtensionObject:
		if x.TypeID != nil && x.TypeID.NodeID != nil {
			return "structure " + cut(x.TypeID.NodeID.String(), maxShown)
		}
		return "structure"
	case *ua.XMLElement:
		return cut(string(*x), maxShown)
	case *ua.GUID:
		return x.String()
	case ua.StatusCode:
		return statusName(x)
	}
	if v.Has(ua.VariantArrayValues) {
		if n := v.ArrayLength(); n > 8 {
			return fmt.Sprintf("array of %d", n)
		}
		if v.Type() >= ua.TypeIDNodeID { // made of pointers
			return fmt.Sprintf("array of %d", v.ArrayLength())
		}
	}
	return cut(fmt.Sprint(v.Value()), maxShown)
}
