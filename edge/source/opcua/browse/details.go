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

// details reads what variables of a stretch are.
func (w *walker) details(ctx context.Context, list []Node) error {
	var (
		ask  []*ua.ReadValueID
		take []func(*ua.DataValue)
	)
	for i := range list {
		n := &list[i]
		if n.Class != classVariable || !n.Picked {
			continue
		}
		wish := func(id *ua.NodeID, a ua.AttributeID, f func(*ua.DataValue)) {
			ask, take = append(ask, attribute(id, a)), append(take, f)
		}
		wish(n.node, ua.AttributeIDDataType, func(v *ua.DataValue) {
			if t, ok := plain(v).(*ua.NodeID); ok && t != nil {
				n.DataType = w.types.intern(t)
			}
		})
		wish(n.node, ua.AttributeIDValueRank, func(v *ua.DataValue) {
			rank, ok := plain(v).(int32)
			n.Array = ok && rank >= 0 // OPC 10000-3 §5.6.2: 0 and more are arrays
		})
		wish(n.node, ua.AttributeIDUserAccessLevel, func(v *ua.DataValue) { n.Access = access(v) })
		if n.unit != nil {
			wish(n.unit, ua.AttributeIDValue, func(v *ua.DataValue) { n.Unit = unitOf(v) })
		}
		if w.cfg.Values {
			wish(n.node, ua.AttributeIDValue, func(v *ua.DataValue) { n.Value = shown(v) })
		}
	}
	got, err := w.readAll(ctx, ask)
	if refused(err) {
		w.note("what variables are could not be read: %v", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what variables are: %w", err)
	}
	for i, f := range take {
		f(got[i])
	}
	return w.named(ctx, list)
}

// readAll reads attributes, some requests at a time.
func (w *walker) readAll(ctx context.Context, ask []*ua.ReadValueID) ([]*ua.DataValue, error) {
	got := make([]*ua.DataValue, len(ask))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for from := 0; from < len(ask); from += w.server.readNodes {
		to := min(from+w.server.readNodes, len(ask))
		g.Go(func() error {
			part, err := w.server.read(gctx, ask[from:to])
			copy(got[from:to], part)
			return err
		})
	}
	return got, g.Wait()
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
