package plant

import "strings"

// Roles of a machine's signals, the last token of a signal's name.
const (
	RoleState       = "state"       // PackML state number (ISA-TR88.00.02), 0..17
	RoleMode        = "mode"        // PackML unit mode: 1 Produce, 2 Maintenance, 3 Manual
	RoleProduced    = "produced"    // Int32 counter, scrap included
	RoleScrap       = "scrap"       // Int32 counter
	RoleSpeed       = "speed"       // items per minute
	RoleOrder       = "order"       // order number, or empty
	RoleProduct     = "product"     // product id
	RoleStopReason  = "stop_reason" // 0: none
	RoleBlocked     = "blocked"
	RoleStarved     = "starved"
	RoleTemperature = "temperature"
	RoleVibration   = "vibration"
	RoleCurrent     = "current"
	RoleEnergy      = "energy" // kWh counter
)

// role is the place of a role in the arrays of a machine.
type role uint8

const (
	rState role = iota
	rMode
	rProduced
	rScrap
	rSpeed
	rOrder
	rProduct
	rReason
	rBlocked
	rStarved
	rTemperature
	rVibration
	rCurrent
	rEnergy
	roles
)

type roleInfo struct {
	name string
	typ  Type
	unit string // UNECE Rec 20 common code
}

func roleTable() [roles]roleInfo {
	return [roles]roleInfo{
		rState:       {RoleState, Int, ""},
		rMode:        {RoleMode, Int, ""},
		rProduced:    {RoleProduced, Int, "C62"},
		rScrap:       {RoleScrap, Int, "C62"},
		rSpeed:       {RoleSpeed, Double, "1/min"},
		rOrder:       {RoleOrder, String, ""},
		rProduct:     {RoleProduct, String, ""},
		rReason:      {RoleStopReason, Int, ""},
		rBlocked:     {RoleBlocked, Bool, ""},
		rStarved:     {RoleStarved, Bool, ""},
		rTemperature: {RoleTemperature, Double, "CEL"},
		rVibration:   {RoleVibration, Double, "C16"},
		rCurrent:     {RoleCurrent, Double, "AMP"},
		rEnergy:      {RoleEnergy, Double, "KWH"},
	}
}

// Lines of the demo plant.
func Lines() []string { return []string{"line1", "line2", "line3"} }

// Machines of a line, in the order of flow.
func Machines() []string { return []string{"filler", "capper", "labeller", "palletiser"} }

// Products the demo plant makes.
func Products() []string { return []string{"lager-05", "pils-033", "radler-05"} }

// IdealCycle is the planned run time per item (ISO 22400 PRI) in seconds; ok
// is false where the site gives none.
func IdealCycle(machine, product string) (seconds float64, ok bool) {
	var of [3]float64 // in the order of Products
	switch machine {
	case "filler", "labeller":
		of = [3]float64{0.30, 0.24, 0.32}
	case "capper":
		of = [3]float64{0.29, 0.23, 0.31}
	case "palletiser":
		of = [3]float64{0.36, 0.30, 0.38}
	default:
		return 0, false
	}
	switch product {
	case "lager-05":
		return of[0], true
	case "pils-033":
		return of[1], true
	case "radler-05":
		return of[2], true
	}
	return 0, false
}

// Sources of the demo plant.
const (
	SourceLine1      = "line1-opcua"
	SourceLine2      = "line2-opcua"
	SourcePalletiser = "line2-palletiser" // forgets its queue: can't be bridged, on purpose
	SourceLine3      = "line3-mqtt"
)

// SourceOf is the source that serves a machine.
func SourceOf(line, machine string) string {
	switch {
	case line == "line1":
		return SourceLine1
	case line == "line2" && machine == "palletiser":
		return SourcePalletiser
	case line == "line2":
		return SourceLine2
	}
	return SourceLine3
}

// Split is a signal's name in its three parts.
func Split(signal string) (line, machine, role string, ok bool) {
	line, rest, ok1 := strings.Cut(signal, ".")
	machine, role, ok2 := strings.Cut(rest, ".")
	return line, machine, role, ok1 && ok2
}
