package browse

// Namespaces of the companion specifications that are recognised.
const (
	nsFoundation    = "http://opcfoundation.org/UA/" // what they begin with; namespace 0
	nsDI            = "http://opcfoundation.org/UA/DI/"
	nsMachinery     = "http://opcfoundation.org/UA/Machinery/"
	nsMachineTool   = "http://opcfoundation.org/UA/MachineTool/"
	nsPackML        = "http://opcfoundation.org/UA/PackML/"
	nsIA            = "http://opcfoundation.org/UA/IA/"
	nsWeihenstephan = "http://opcfoundation.org/UA/Weihenstephan/"
)

// entry is a place under which machines stand.
type entry struct {
	spec, uri, name string
	types           []string
	points          int
}

// entries are found by the namespace URI of the browse name, the name and the
// type definition, wherever they stand; an index or a node id is never looked at.
func entries() []entry {
	folder := []string{typeFolder}
	return []entry{
		{"Machinery", nsMachinery, "Machines", folder, 25},                // OPC 40001-1 §6
		{"PackML", nsPackML, "PackMLObjects", append(folder, "i=58"), 20}, // OPC 30050 §7: BaseObjectType in its nodeset
		{"DI", nsDI, "DeviceSet", append(folder, "i=58"), 10},             // OPC 10000-100 §5.7
		{"DI", nsDI, "NetworkSet", append(folder, "i=58"), 5},
	}
}

// kind is a type whose objects say something about the machine they stand in, or
// are.
type typed struct {
	spec, typ, name string // name: of the type, in words
	browse          string // browse name its objects must have; empty: any
	browseURI       string // and its namespace
	points          int
	is              part
}

// part is what an object of a type is to a machine.
type part int

const (
	within     part = iota // it stands in one
	always                 // it is one
	unlessPart             // it is one, unless it stands in another
)

// typeFolder is the type definition of folders.
const typeFolder = "i=61"

// typeds are the types that are recognised; numbers from the nodesets of 2024.
func typeds() []typed {
	return []typed{
		{"Machinery", nsMachinery + ";i=1012", "MachineIdentificationType", "Identification", nsDI, 25, within},
		{"Machinery", nsMachinery + ";i=1002", "MachineryItemState_StateMachineType", "MachineryItemState", nsMachinery, 10, within},
		{"Machinery", nsMachinery + ";i=1008", "MachineryOperationModeStateMachineType", "MachineryOperationMode", nsMachinery, 5, within},
		{"Machinery", nsMachinery + ";i=1009", "MachineryOperationCounterType", "OperationCounters", nsDI, 5, within},
		{"MachineTool", nsMachineTool + ";i=13", "MachineToolType", "", "", 30, always},
		{"PackML", nsPackML + ";i=6", "PackMLBaseObjectType", "", "", 30, always},
		{"Weihenstephan", nsWeihenstephan + ";i=1000", "WSMachineType", "", "", 30, always},
		{"DI", nsDI + ";i=1002", "DeviceType", "", "", 20, unlessPart},
		{"IA", nsIA + ";i=1002", "BasicStacklightType", "", "", 10, within},
		{"IA", nsIA + ";i=1010", "StacklightType", "", "", 10, within},
	}
}

// rule says which role a variable of a specification plays.
type rule struct {
	spec   string
	uri    string // of its browse name
	parent string // browse name of what it stands in; empty: any
	name   string
	role   string

	ofParent bool // of what it stands in, where that is not the machine: of several lamps each has one
}

// rules are the variables whose meaning a specification fixes, and that products
// are made of.
func rules() []rule {
	return []rule{
		{"PackML", nsPackML, "Status", "StateCurrent", "state", false},
		{"PackML", nsPackML, "Status", "UnitModeCurrent", "mode", false},
		{"PackML", nsPackML, "Status", "CurMachSpeed", "speed", false},
		{"PackML", nsPackML, "Status", "EquipmentBlocked", "blocked", false},
		{"PackML", nsPackML, "Status", "EquipmentStarved", "starved", false},
		{"PackML", nsPackML, "Admin", "ProdProcessedCount", "produced", false},
		{"PackML", nsPackML, "Admin", "ProdDefectiveCount", "scrap", false},
		{"PackML", nsPackML, "Admin", "StopReason", "stop_reason", false},
		{"PackML", nsPackML, "Admin", "MachDesignSpeed", "design_speed", false},
		{"MachineTool", nsMachineTool, "OperationCounters", "PartsProducedInLifetime", "produced", false},
		{"MachineTool", nsMachineTool, "Statistics", "PartsProducedInLifetime", "produced", false},
		{"DI", nsDI, "OperationCounters", "PowerOnDuration", "power_on", false},
		{"DI", nsDI, "OperationCounters", "OperationDuration", "operation", false},
		{"DI", nsDI, "OperationCounters", "OperationCycleCounter", "cycles", false},
		{"DI", nsDI, "", "DeviceHealth", "device_health", true},
		{"MachineTool", nsMachineTool, "MachineTool", "OperationMode", "tool_mode", false},
		{"MachineTool", nsMachineTool, "ActiveProgram", "State", "program_state", false},
		{"IA", nsIA, "", "SignalOn", "on", true},
		{"IA", nsIA, "", "SignalColor", "color", true},
		{"IA", nsIA, "", "SignalMode", "mode", true},
	}
}

// roles are those that products are made of, with what each must be.
func roles() []role {
	number := []string{"int", "uint", "double"}
	return []role{
		{"state", number, "a PackML state number"},
		{"mode", number, "1 automatic, 2 maintenance, 3 manual"},
		{"produced", number, "a counter of all items made"},
		{"scrap", number, "a counter of items rejected"},
		{"order", []string{"string"}, "the order being made"},
		{"product", []string{"string"}, "the product being made"},
		{"stop_reason", number, "why it stands, as a number"},
		{"energy", number, "a counter of energy"},
	}
}

type role struct {
	name  string
	kinds []string
	means string
}

// Field is a field of a product, and what it is made of.
type Field struct {
	Product string   `json:"product"`
	Field   string   `json:"field"`
	Roles   []string `json:"roles"`
	Site    string   `json:"site,omitempty"` // and what the site file must say
}

// Fields are the fields of products that are made of signals' roles. A test holds
// them against the products' definitions.
func Fields() []Field {
	return []Field{
		{Product: "equipment-state", Field: "state", Roles: []string{"state"}},
		{Product: "equipment-state", Field: "packml_state", Roles: []string{"state"}},
		{Product: "equipment-state", Field: "mode", Roles: []string{"mode"}},
		{Product: "equipment-state", Field: "element", Roles: []string{"state", "mode"}},
		{Product: "equipment-state", Field: "reason", Roles: []string{"stop_reason"}},
		{Product: "production-rate", Field: "produced_count", Roles: []string{"produced"}},
		{Product: "production-rate", Field: "rate_per_hour", Roles: []string{"produced"}},
		{Product: "production-rate", Field: "scrap_count", Roles: []string{"scrap"}},
		{Product: "production-rate", Field: "good_count", Roles: []string{"produced", "scrap"}},
		{Product: "production-rate", Field: "ideal_rate_per_hour", Roles: []string{"produced", "product"}, Site: "ideal_cycle_seconds"},
		{Product: "production-rate", Field: "energy_kwh", Roles: []string{"energy"}},
		{Product: "oee", Field: "apt_seconds", Roles: []string{"state", "mode"}},
		{Product: "oee", Field: "aust_seconds", Roles: []string{"state", "mode", "order", "product"}},
		{Product: "oee", Field: "availability_ratio", Roles: []string{"state", "mode"}},
		{Product: "oee", Field: "effectiveness_ratio", Roles: []string{"state", "mode", "produced", "product"}, Site: "ideal_cycle_seconds"},
		{Product: "oee", Field: "quality_ratio", Roles: []string{"produced", "scrap"}},
		{Product: "oee", Field: "oee_ratio", Roles: []string{"state", "mode", "produced", "scrap", "product"}, Site: "ideal_cycle_seconds"},
	}
}
