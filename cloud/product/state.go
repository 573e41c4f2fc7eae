package product

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"

	"plantmesh/proto/mesh"
)

// phase is where a state stands.
type phase uint8

const (
	phaseBefore phase = iota // nothing has been known yet
	phaseKnown
	phaseGap
)

// word is a text register.
type word struct {
	Has  bool   `json:"has,omitempty"`
	Text string `json:"text,omitempty"`
}

// changed reports whether now is another value than was; a first one is not.
func (w word) changed(now word) bool { return w.Has && now.Has && w.Text != now.Text }

// number is a numeric register. Floating values keep their bits, so that a
// state read back is the same to the bit.
type number struct {
	Has  bool   `json:"has,omitempty"`
	Bits uint64 `json:"bits,omitempty"`
}

func (n number) int() int64     { return int64(n.Bits) }
func (n number) float() float64 { return math.Float64frombits(n.Bits) }

// registers hold the last value of each role.
type registers struct {
	State    number `json:"state"` // none while Bad
	Mode     number `json:"mode"`
	Reason   number `json:"reason"`
	Produced number `json:"produced"`
	Scrap    number `json:"scrap"`
	Energy   number `json:"energy"` // bits of a float, or of an int in kJ
	Order    word   `json:"order"`
	Product  word   `json:"product"`
}

// Count is what was counted of one product.
type Count struct {
	Produced int64 `json:"produced"`
	Scrap    int64 `json:"scrap"`
}

// Totals are the sums of one cell. Times are integer nanoseconds; what is left
// of the cell is unknown.
type Totals struct {
	APT      int64            `json:"apt,omitempty"`
	AUST     int64            `json:"aust,omitempty"`
	ADET     int64            `json:"adet,omitempty"`
	ADOT     int64            `json:"adot,omitempty"`
	Planned  int64            `json:"planned,omitempty"`
	Known    int64            `json:"known,omitempty"`  // the source was known
	Energy   uint64           `json:"energy,omitempty"` // bits of a float in kWh
	EnergyKJ int64            `json:"energy_kj,omitempty"`
	Resets   int64            `json:"resets,omitempty"`
	Products map[string]Count `json:"products,omitempty"`
	// Backwards is how often a counter fell without beginning anew.
	Backwards int64 `json:"backwards,omitempty"`
	// Heard are the counters that showed a value while the source was known.
	Heard heard `json:"heard,omitempty"`
}

// heard is a set of counters: what no counter counted is not 0, it is not known.
type heard uint8

const (
	heardProduced heard = 1 << iota
	heardScrap
	heardEnergy
)

func (h heard) has(all heard) bool { return h&all == all }

func (r *registers) heard() (h heard) {
	if r.Produced.Has {
		h |= heardProduced
	}
	if r.Scrap.Has {
		h |= heardScrap
	}
	if r.Energy.Has {
		h |= heardEnergy
	}
	return h
}

// Bounds of a state: it is stored at the end of every cell.
const (
	// maxProducts are counted apart in one cell; more are counted as MoreProducts.
	maxProducts = 256
	// maxWord bounds a text register in bytes, see EventOf.
	maxWord = 256
	// MoreProducts stands for all products of a cell beyond the first so many. No
	// site file has an ideal cycle for it.
	MoreProducts = "(more products)"
)

func (t *Totals) addTime(e Element, ns int64) {
	switch e {
	case APT:
		t.APT += ns
	case AUST:
		t.AUST += ns
	case ADET:
		t.ADET += ns
	case ADOT:
		t.ADOT += ns
	case ElementNone:
	}
}

func (t *Totals) addCount(product string, c Count) {
	if c == (Count{}) {
		return
	}
	if t.Products == nil {
		t.Products = map[string]Count{}
	}
	was := t.Products[product]
	t.Products[product] = Count{was.Produced + c.Produced, was.Scrap + c.Scrap}
}

// addCellCount is addCount for a cell, whose products are bounded. The order of
// folding says which are the first.
func (t *Totals) addCellCount(product string, c Count) {
	if _, has := t.Products[product]; !has && len(t.Products) >= maxProducts {
		product = MoreProducts
	}
	t.addCount(product, c)
}

func (t *Totals) addEnergy(kwh float64) {
	t.Energy = math.Float64bits(math.Float64frombits(t.Energy) + kwh)
}

func (t *Totals) clone() Totals {
	c := *t
	c.Products = maps.Clone(t.Products)
	return c
}

// State is what the fold of one equipment knows before the first sample at or
// after At. The zero State knows nothing.
type State struct {
	At      mesh.Nanos `json:"at"`
	Phase   phase      `json:"phase"`
	Regs    registers  `json:"regs"`
	Setup   bool       `json:"setup,omitempty"`   // order or product changed since the last Execute
	Order   word       `json:"order"`             // as they stood before the gap
	Product word       `json:"product"`           //
	Tuple   Tuple      `json:"tuple"`             // since From
	From    mesh.Nanos `json:"from,omitempty"`    // of the open interval
	Cell    Totals     `json:"cell"`              // of the open cell, so far
	CellAt  mesh.Nanos `json:"cell_at,omitempty"` // its beginning
}

// Clone is a deep copy.
func (s *State) Clone() *State {
	c := *s
	c.Cell = s.Cell.clone()
	return &c
}

// Same reports whether the fold goes on from both in the same way, to the bit.
func (s *State) Same(o *State) bool { return reflect.DeepEqual(s, o) }

// Cell is one finished cell.
type Cell struct {
	From   mesh.Nanos `json:"from"`
	To     mesh.Nanos `json:"to"`
	Totals Totals     `json:"totals"`
	// Ideal are the seconds per item, by product, that held at its beginning;
	// nil: those of the equipment the window is made for. See Sites.
	Ideal map[string]float64 `json:"-"`
}

// Edge is the state at the end of a cell, and that cell: what is kept to fold
// again from there.
type Edge struct {
	State *State `json:"state"`
	Cell  Cell   `json:"cell"`
}

// Encode is the edge as bytes: canonical JSON, floating numbers by their bits.
func (e *Edge) Encode() ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode a fold state: %w", err)
	}
	return b, nil
}

// DecodeEdge reads what Encode wrote.
func DecodeEdge(b []byte) (*Edge, error) {
	e := Edge{State: &State{}}
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("decode a fold state: %w", err)
	}
	if e.State == nil {
		return nil, fmt.Errorf("decode a fold state: %w: it is empty", mesh.ErrPermanent)
	}
	return &e, nil
}

// Started reports whether anything was known yet.
func (s *State) Started() bool { return s.Phase != phaseBefore }
