package product

// MachineryItemState (OPC 40001-1 §8).
const (
	stateNotAvailable = 0
	stateOutOfService = 1
	stateNotExecuting = 2
	stateExecuting    = 3
)

// MachineryOperationMode (OPC 40001-1 §8).
const (
	modeNone        = 0
	modeMaintenance = 1
	modeSetup       = 2
	modeProcessing  = 3
)

// PackML unit modes (OPC 30050, TR88.00.02).
const (
	packmlProduce     = 1
	packmlMaintenance = 2
	packmlManual      = 3
)

// PackML states that the fold names (OPC 30050).
const (
	packmlExecute = 6
	packmlNone    = -1 // no value
)

// Element is a time element of ISO 22400-2.
type Element string

// Time elements. An instant without one is unknown.
const (
	ElementNone Element = ""
	APT         Element = "APT"
	AUST        Element = "AUST"
	ADET        Element = "ADET"
	ADOT        Element = "ADOT"
)

// Tuple is what equipment-state says of an instant; an interval is a maximal
// run of one tuple.
type Tuple struct {
	State, Mode, Packml int // Packml -1: unknown
	Element             Element
	Cause               string
	Reason              int64 // 0: none
}

func unknownTuple() Tuple {
	return Tuple{State: stateNotAvailable, Mode: modeNone, Packml: packmlNone, Cause: "unknown"}
}

// inputs are the registers that decide the tuple.
type inputs struct {
	packml, mode int64
	hasPackml    bool // Good or Uncertain, and a value
	hasOrder     bool // an order is registered
	setup        bool // order or product changed since the last Execute
	reason       int64
}

// tuple maps registers to the tuple. A PackML state outside 1..17 has no
// element, so it is unknown.
func (in inputs) tuple() Tuple {
	if !in.hasPackml || in.packml < 1 || in.packml > 17 {
		return unknownTuple()
	}
	t := Tuple{State: itemState(in.packml), Mode: operationMode(in.mode), Packml: int(in.packml)}
	t.Element, t.Cause = in.element()
	if t.Element != APT {
		t.Reason = in.reason
	}
	return t
}

func itemState(packml int64) int {
	switch packml {
	case 6, 16:
		return stateExecuting
	case 1, 8, 9:
		return stateOutOfService
	}
	return stateNotExecuting
}

func operationMode(mode int64) int {
	switch mode {
	case packmlProduce:
		return modeProcessing
	case packmlMaintenance:
		return modeMaintenance
	case packmlManual:
		return modeSetup
	}
	return modeNone
}

// element is the time element and the cause: the first match counts.
func (in inputs) element() (Element, string) {
	switch in.mode {
	case packmlMaintenance:
		return ADET, "maintenance"
	case packmlManual:
		return AUST, "changeover"
	}
	switch in.packml {
	case packmlExecute, 16:
		return APT, "none"
	case 3, 15:
		if in.setup {
			return AUST, "changeover"
		}
		return ADET, "internal"
	case 5, 13, 14:
		return ADET, "external"
	case 10, 11, 12:
		return ADET, "internal"
	case 1, 8, 9:
		return ADET, "failure"
	}
	if in.hasOrder {
		return ADET, "operator"
	}
	return ADOT, "no_order"
}

// StateName is a MachineryItemState in words.
func StateName(n int) string {
	switch n {
	case stateOutOfService:
		return "out_of_service"
	case stateNotExecuting:
		return "not_executing"
	case stateExecuting:
		return "executing"
	}
	return "not_available"
}

// ModeName is a MachineryOperationMode in words.
func ModeName(n int) string {
	switch n {
	case modeMaintenance:
		return "maintenance"
	case modeSetup:
		return "setup"
	case modeProcessing:
		return "processing"
	}
	return "none"
}

// PackmlName is the name of a PackML state (OPC 30050), or empty.
func PackmlName(n int) string {
	names := [...]string{
		"", "Clearing", "Stopped", "Starting", "Idle", "Suspended", "Execute", "Stopping", "Aborting", "Aborted",
		"Holding", "Held", "Unholding", "Suspending", "Unsuspending", "Resetting", "Completing", "Complete",
	}
	if n < 0 || n >= len(names) {
		return ""
	}
	return names[n]
}
