package browse

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// space is an address space written down as paths, "NS:Name" with a slash between.
type space struct {
	uris  map[string]string // by the short name in paths
	lines []line
	super map[string]string // "NS;i=5" below "NS;i=6"
}

type line struct {
	path, typ string // typ: "NS;i=5", or "i=58"
	dataType  uint32 // 0: an object
}

// serve makes a server of the space whose namespaces have the order of order.
func (s space) serve(order []string) *fake {
	f := &fake{}
	index := map[string]uint16{"": 0}
	for i, short := range order {
		f.spaces = append(f.spaces, s.uris[short])
		index[short] = uint16(i + 1)
	}
	node := func(text string) *ua.NodeID {
		short, rest, ok := strings.Cut(text, ";")
		if !ok {
			short, rest = "", text
		}
		n, err := ua.ParseNodeID(fmt.Sprintf("ns=%d;%s", index[short], rest))
		if err != nil {
			panic(err)
		}
		return n
	}
	below, types := map[string][]*ua.ReferenceDescription{}, map[string]uint32{}
	for _, l := range s.lines {
		parent, name := "", l.path
		if i := strings.LastIndexByte(l.path, '/'); i >= 0 {
			parent, name = l.path[:i], l.path[i+1:]
		}
		short, name, _ := strings.Cut(name, ":")
		class := ua.NodeClassObject
		if l.dataType != 0 {
			class = ua.NodeClassVariable
		}
		at := ua.NewStringNodeID(1, l.path)
		types[at.String()] = l.dataType
		key := "i=85"
		if parent != "" {
			key = ua.NewStringNodeID(1, parent).String()
		}
		below[key] = append(below[key], named(at, index[short], name, class, node(l.typ)))
	}
	f.below = func(n string) []*ua.ReferenceDescription { return below[n] }
	f.attribute = func(n string, a ua.AttributeID) *ua.DataValue {
		var v any
		switch t := types[n]; {
		case t == 0:
			return nil
		case a == ua.AttributeIDDataType:
			v = ua.NewNumericNodeID(0, t)
		case a == ua.AttributeIDUserAccessLevel:
			v = uint8(1)
		case a == ua.AttributeIDValueRank:
			v = int32(-1)
		default:
			return nil
		}
		return &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant(v)}
	}
	f.supertype = func(n string) *ua.NodeID {
		for below, above := range s.super {
			if node(below).String() == n {
				return node(above)
			}
		}
		return nil
	}
	return f
}

func specs() map[string]string {
	return map[string]string{"v": "urn:vendor", "di": nsDI, "m": nsMachinery, "mt": nsMachineTool, "p": nsPackML, "ia": nsIA, "w": nsWeihenstephan}
}

func recognised(t *testing.T, s space, order []string) []Machine {
	t.Helper()
	f := s.serve(order)
	nodes, _ := walk(t, f, Config{Details: true})
	if len(nodes) != len(s.lines) {
		t.Fatalf("%d nodes of %d", len(nodes), len(s.lines))
	}
	m, err := Machines(t.Context(), f, nodes, "")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const (
	object   = "i=58"
	folder   = "i=61"
	variable = "i=63"
	property = "i=68"
)

func plant() space {
	return space{uris: specs(), super: map[string]string{"v;i=9": "mt;i=13"}, lines: []line{
		{"m:Machines", folder, 0},
		{"m:Machines/v:Line4-Press", object, 0},
		{"m:Machines/v:Line4-Press/di:Identification", "m;i=1012", 0},
		{"m:Machines/v:Line4-Press/di:Identification/di:Manufacturer", "i=68", id.String},
		{"m:Machines/v:Line4-Press/m:MachineryBuildingBlocks", folder, 0},
		{"m:Machines/v:Line4-Press/m:MachineryBuildingBlocks/m:MachineryItemState", "m;i=1002", 0},
		{"m:Machines/v:Line4-Press/m:MachineryBuildingBlocks/m:MachineryItemState/:CurrentState", "i=2760", id.LocalizedText},
		{"m:Machines/v:Line4-Press/m:MachineryBuildingBlocks/m:MachineryItemState/:CurrentState/:Number", "i=68", id.UInt32},
		{"m:Machines/v:Line4-Press/m:MachineryBuildingBlocks/di:OperationCounters", "m;i=1009", 0},
		{"m:Machines/v:Line4-Press/m:MachineryBuildingBlocks/di:OperationCounters/di:OperationCycleCounter", property, id.UInt64}, // so in the nodeset of DI
		{"m:Machines/v:Line4-Press/v:OilTemperature", variable, id.Float},
		{"m:Machines/v:Line4-Press/v:energy", variable, id.Double},
		{"m:Machines/v:Line4-Press/v:Lamp", "ia;i=1002", 0},
		{"m:Machines/v:Mill", "v;i=9", 0},
		{"m:Machines/v:Mill/di:OperationCounters", object, 0},
		{"m:Machines/v:Mill/di:OperationCounters/mt:PartsProducedInLifetime", variable, id.UInt64},
		{"p:PackMLObjects", object, 0},
		{"p:PackMLObjects/v:Line4-Press", "p;i=6", 0},
		{"p:PackMLObjects/v:Line4-Press/p:Status", object, 0},
		{"p:PackMLObjects/v:Line4-Press/p:Status/p:StateCurrent", variable, id.Int32},
		{"p:PackMLObjects/v:Line4-Press/p:Admin", object, 0},
		{"p:PackMLObjects/v:Line4-Press/p:Admin/p:ProdProcessedCount", variable, id.Structure},
		{"di:DeviceSet", object, 0},
		{"di:DeviceSet/v:Gauge", object, 0},
		{"di:DeviceSet/v:Gauge/di:DeviceHealth", variable, id.Enumeration},
		{"v:Cellar", folder, 0},
		{"v:Cellar/v:Filler", "w;i=1000", 0},
		{"v:Cellar/v:Filler/v:Scrap", variable, id.UInt16},
	}}
}

func TestMachines_OfEachSpecification(t *testing.T) {
	got := recognised(t, plant(), []string{"v", "di", "m", "mt", "p", "ia", "w"})
	// What a namespace's index is says nothing: the same in another order.
	if other := recognised(t, plant(), []string{"v", "w", "ia", "p", "mt", "m", "di"}); fmt.Sprintf("%+v", other) != fmt.Sprintf("%+v", got) {
		t.Errorf("with other indexes\n%+v\nwas\n%+v", other, got)
	}
	var names []string
	by := map[string]Machine{}
	for _, m := range got {
		names = append(names, m.Name)
		by[m.Name] = m
	}
	if !slices.Equal(names, []string{"Line4-Press", "Mill", "Filler", "Gauge"}) {
		t.Fatalf("%v", names)
	}
	press := by["Line4-Press"]
	if !slices.Equal(press.Specs, []string{"Machinery", "PackML", "IA"}) || press.Score != 100 || len(press.Nodes) != 2 {
		t.Errorf("%+v", press)
	}
	for name, want := range map[string][]string{
		"Line4-Press": {"line4.press.state", "line4.press.energy", "line4.press.oil_temperature", "line4.press.current_state", "line4.press.item_state", "line4.press.cycles"},
		"Mill":        {"line1.mill.produced"},
		"Gauge":       {"line1.gauge.device_health"},
		"Filler":      {"line1.filler.scrap"},
	} {
		var has []string
		for _, s := range by[name].Signals {
			has = append(has, s.Name)
		}
		slices.Sort(has)
		slices.Sort(want)
		if !slices.Equal(has, want) {
			t.Errorf("%s has %v, want %v", name, has, want)
		}
	}
	if i := slices.IndexFunc(by["Mill"].Why, func(w string) bool { return strings.Contains(w, "Mill is of MachineToolType") }); i < 0 {
		t.Errorf("a subtype of MachineToolType is not seen: %v", by["Mill"].Why)
	}
	if s := by["Mill"].Signals[0]; s.Type != "int" || s.Role != "produced" {
		t.Errorf("%+v", s)
	}
	why := ""
	for _, g := range press.Empty {
		if g.Field.Field == "produced_count" {
			why = g.Why
		}
	}
	if !strings.Contains(why, "no produced") || !strings.Contains(why, "OperationCycleCounter is there") {
		t.Errorf("produced_count stays empty because %q", why)
	}
	if !slices.ContainsFunc(press.Left, func(l string) bool {
		return l == "produced: ProdProcessedCount (Structure) is a structure: no product is made of it, type: struct keeps it"
	}) {
		t.Errorf("left out: %v", press.Left)
	}
}

// The right names in other namespaces, or of other types, are no machines.
func TestMachines_LookAlikes(t *testing.T) {
	s := space{uris: specs(), lines: []line{
		{"v:Machines", folder, 0},
		{"v:Machines/v:A", object, 0},
		{"v:Machines/v:A/di:Identification", object, 0},
		{"m:Machines", "i=63", id.Int32},
		{"p:PackMLObjects", "v;i=6", 0},
		{"p:PackMLObjects/v:B", "v;i=6", 0},
		{"v:C", "v;i=13", 0},
		{"v:D", "mt;i=14", 0},
	}}
	if got := recognised(t, s, []string{"v", "di", "m", "mt", "p"}); len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

// Machines that have one name on two lines keep signals of their own.
func TestMachines_NamesAreUnique(t *testing.T) {
	s := space{uris: specs(), lines: []line{
		{"v:L1", folder, 0},
		{"v:L2", folder, 0},
		{"v:L1/v:Press", "mt;i=13", 0},
		{"v:L1/v:Press/v:state", variable, id.Int32},
		{"v:L2/v:Press", "mt;i=13", 0},
		{"v:L2/v:Press/v:state", variable, id.Int32},
		{"v:L2/v:Press/v:State", variable, id.Int32},
	}}
	var names []string
	for _, m := range recognised(t, s, []string{"v", "mt"}) {
		for _, x := range m.Signals {
			names = append(names, x.Name)
		}
	}
	slices.Sort(names)
	if len(names) != 3 || len(slices.Compact(slices.Clone(names))) != 3 {
		t.Errorf("%v", names)
	}
}

func TestSnake(t *testing.T) {
	for in, want := range map[string]string{
		"OilTemperature": "oil_temperature", "MachSpeedRPM": "mach_speed_rpm", "energy_kJ": "energy_k_j", "Ölstand 1": "lstand_1", "": "v", "__": "v", "A": "a", "stop_reason": "stop_reason", "HTTPPort2": "http_port2",
	} {
		if got := snake(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// A device of DI is a machine wherever it stands, but in another machine; a stack light
// of IA makes one of what it stands on, where nothing else does.
func TestMachines_OfParts(t *testing.T) {
	s := space{uris: specs(), super: map[string]string{"v;i=9": "di;i=1002"}, lines: []line{
		{"di:DeviceSet", object, 0},
		{"di:DeviceSet/v:Oven", "v;i=9", 0},
		{"di:DeviceSet/v:Oven/v:Burner", "v;i=9", 0},
		{"di:DeviceSet/v:Oven/v:Burner/v:energy", variable, id.Double},
		{"di:DeviceSet/v:Oven/v:Burner/di:DeviceHealth", variable, id.Enumeration},
		{"di:DeviceSet/v:Oven/v:Lamp", "ia;i=1010", 0},
		{"v:Hall", folder, 0},
		{"v:Hall/v:Dryer", "v;i=9", 0},
		{"v:Hall/v:Dryer/di:DeviceHealth", variable, id.Enumeration},
		{"v:Hall/v:Lathe", object, 0},
		{"v:Hall/v:Lathe/v:produced", variable, id.UInt32},
		{"v:Hall/v:Lathe/v:Monitoring", object, 0},
		{"v:Hall/v:Lathe/v:Monitoring/v:Light", "ia;i=1002", 0},
		{"v:Hall/v:Tower", "ia;i=1010", 0},
		{"v:Hall/v:Tower/v:Red", "ia;i=1006", 0},
		{"v:Hall/v:Tower/v:Red/ia:SignalOn", property, id.Boolean},
		{"v:Hall/v:Tower/v:Red/ia:SignalMode", variable, id.Enumeration},
		{"v:Hall/v:Tower/v:Red/ia:NumberInList", property, id.UInt32},
		{"v:Hall/v:Tower/v:Green", "ia;i=1006", 0},
		{"v:Hall/v:Tower/v:Green/ia:SignalOn", property, id.Boolean},
		{"v:Hall/v:Press", object, 0},
		{"v:Hall/v:Press/v:Drive", "v;i=9", 0}, // before it is known that this is a machine
		{"v:Hall/v:Press/v:Light", "ia;i=1002", 0},
		{"v:Hall/v:Press/di:Identification", "m;i=1012", 0},
		{"v:Top", "ia;i=1002", 0},
	}}
	got := map[string]string{}
	for _, m := range recognised(t, s, []string{"v", "di", "m", "ia"}) {
		got[m.Name] = strings.Join(m.Specs, "+") + " " + strings.Join(m.Why[:len(m.Why)-1], ", ")
		for _, x := range m.Signals {
			got[m.Name] += " " + x.Name
		}
	}
	want := map[string]string{
		"Oven":  "DI+IA stands under DeviceSet of DI (10), Oven is of DeviceType (20), Lamp is of StacklightType (10) line1.oven.energy line1.oven.burner_device_health",
		"Dryer": "DI Dryer is of DeviceType (20) line1.dryer.device_health",
		"Lathe": "IA Light is of BasicStacklightType (10) line1.lathe.produced",
		"Tower": "IA Tower is of StacklightType (10) line1.tower.red_on line1.tower.red_mode line1.tower.green_on",
		"Press": "Machinery+IA has Identification of MachineIdentificationType (25), Light is of BasicStacklightType (10)",
		"Top":   "IA Top is of BasicStacklightType (10)",
	}
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s: %s\nwant %s", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
}
