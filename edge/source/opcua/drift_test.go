package opcua

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/proto/mesh"
)

// inUnit is the unit with this common code.
func inUnit(code string) *ua.EUInformation {
	n := int32(0)
	for _, c := range []byte(code) {
		n = n<<8 | int32(c)
	}
	return &ua.EUInformation{NamespaceURI: unece, UnitID: n, DisplayName: ua.NewLocalizedText(code), Description: ua.NewLocalizedText(code)}
}

func heated() Config {
	return Config{Signals: []Signal{
		{Name: "temp", Type: "double", Node: "nsu=urn:press;s=temp"},
		{Name: "level", Type: "double", Unit: "MMT", Node: "nsu=urn:press;s=level"},
		{Name: "parts", Type: "int", Node: "nsu=urn:press;s=parts"},
	}}
}

// heat makes what heated reads.
func (p *plc) heat() (temp, level, parts *cell) {
	temp, level, parts = p.add("ns=2;s=temp", "", 20.5), p.add("ns=2;s=level", "", 7.5), p.add("ns=2;s=parts", "", int32(3))
	p.edit(func() { temp.unit, level.unit = inUnit("CEL"), inUnit("MMT") })
	return temp, level, parts
}

func (r *running) unit(i int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table[i].Unit
}

func (r *running) notes() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, v := range r.voids {
		all = append(all, v.Note)
	}
	return strings.Join(all, " | ")
}

func TestReader_AnotherUnitNeverMixes(t *testing.T) {
	p := newPLC(t)
	temp, _, _ := p.heat()
	r := p.run(t, heated(), nil)
	r.says(t, "0@0 20.5")
	if got := r.unit(0); got != "CEL" {
		t.Errorf("the unit that the server says is %q in the table", got)
	}
	p.pass(10 * time.Second)
	until(t, "5 s are proven", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.proof == noon.Add(5*time.Second) })
	p.cut()
	p.edit(func() { temp.unit = inUnit("FAH") })
	until(t, "drift is told", func() bool {
		return strings.HasSuffix(r.told(), "mapping drift of 1 signals, which count for nothing: temp: its unit was CEL and is FAH: where that is meant, write unit: FAH")
	})
	p.set(temp, 70.5)
	r.says(t, "0@5 !BadConfigurationError")
	r.says(t, "0@11 70.5!BadConfigurationError")
	if !strings.Contains(r.notes(), "mapping drift: temp: its unit was CEL") || r.unit(0) != "CEL" {
		t.Errorf("unit %s, notes %s", r.unit(0), r.notes())
	}
	r.stop()

	// A restart changes nothing, a file that says so does.
	r = p.run(t, heated(), r)
	p.set(temp, 71.5)
	r.says(t, "0@12 71.5!BadConfigurationError")
	r.stop()
	cfg := heated()
	cfg.Signals[0].Unit = "FAH"
	r = p.run(t, cfg, r)
	r.says(t, "0@12 71.5,")
	p.set(temp, 72.5)
	r.says(t, "0@13 72.5")
	if r.unit(0) != "FAH" || strings.Contains(r.said(), "72.5!") || strings.Contains(r.told(), "drift") {
		t.Errorf("unit %s: %s | %s", r.unit(0), r.said(), r.told())
	}
}

func TestReader_AUnitThatComesBackNeedsNobody(t *testing.T) {
	p := newPLC(t)
	temp, level, _ := p.heat()
	r := p.run(t, heated(), nil)
	r.says(t, "2@0 3")
	p.cut()
	p.edit(func() { level.unit = inUnit("INH") })
	r.says(t, "1@0 !BadConfigurationError")
	p.cut()
	p.edit(func() { level.unit, p.clock = inUnit("MMT"), noon.Add(time.Second) })
	until(t, "it is well", func() bool { return strings.HasSuffix(r.told(), "; connected") })
	r.says(t, "1@0 7.5, 2@0 3, 1@0 !BadConfigurationError, 1@1 7.5")
	p.set(level, 8.5)
	p.set(temp, 21.5)
	r.says(t, "1@2 8.5")
	r.says(t, "0@3 21.5")
	if n := p.count("CreateSubscriptionRequest"); n != 1 {
		t.Errorf("%d subscriptions were made", n)
	}
}

func TestReader_SemanticsChangedIsLookedInto(t *testing.T) {
	p := newPLC(t)
	temp, _, _ := p.heat()
	r := p.run(t, heated(), nil)
	r.says(t, "2@0 3")
	p.pass(time.Second)
	p.edit(func() {
		temp.value = p.stamped(20.75)
		p.queueOf(temp) // in the same message, before the change
		temp.unit = inUnit("FAH")
		temp.value = p.stamped(69.5)
		temp.value.Status = semanticsChanged
		temp.value.UpdateMask()
		p.queueOf(temp)
		p.flush()
	})
	r.says(t, "0@1 69.5!BadConfigurationError")
	p.set(temp, 70.5)
	r.says(t, "0@2 70.5!BadConfigurationError")
	if got := r.said(); strings.Count(got, "69.5") != 1 || p.count("CreateSubscriptionRequest") != 1 {
		t.Errorf("it kept %s", got)
	}
}

func TestReader_AnotherDataTypeIsDrift(t *testing.T) {
	p := newPLC(t)
	temp, level, parts := p.heat()
	r := p.run(t, heated(), nil)
	r.says(t, "2@0 3")
	p.cut()
	p.edit(func() {
		parts.dataType, parts.value = ua.NewNumericNodeID(0, id.Int64), p.stamped(int64(4)) // wider: no drift
		temp.dataType, temp.value = ua.NewNumericNodeID(0, id.Int32), p.stamped(int32(21))  // converts, and yet
		level.dataType, level.value = ua.NewNumericNodeID(0, id.String), p.stamped("high")
		p.queueOf(temp)
		p.queueOf(parts)
	})
	r.says(t, "0@0 21!BadConfigurationError")
	r.says(t, "2@0 4")
	for _, want := range []string{
		"temp: its data type was Double and is Int32: where that is meant, write type: int",
		"level: its data type is String at the server and double in the file: write type: string",
		"parts: its data type was Int32 and is Int64",
	} {
		if !strings.Contains(r.notes(), want) {
			t.Errorf("%q is missing in %s", want, r.notes())
		}
	}
	if strings.Contains(r.told(), "parts") || !strings.Contains(r.told(), "mapping drift of 2 signals") {
		t.Errorf("it says %s", r.told())
	}
}

func TestReader_ANodeThatWasRemovedComesBack(t *testing.T) {
	p := newPLC(t)
	a, _, _ := p.plant()
	r := p.run(t, pressed(), nil)
	r.says(t, "2@0 3")
	p.cut()
	p.edit(func() { delete(p.cells, "ns=2;s=b") })
	r.says(t, "1@0 !BadNodeIdUnknown")
	p.set(a, int32(77))
	r.says(t, "0@1 77") // it is at work: a cut while an item is deleted makes a new subscription
	p.cut()
	p.pass(time.Second)
	b := p.add("ns=2;s=b", "", int32(8)) // by the same id: the item of before is dead
	r.says(t, "1@2 8")
	p.set(b, int32(9))
	r.says(t, "1@3 9")
	if n := p.count("CreateSubscriptionRequest"); n != 1 {
		t.Errorf("%d subscriptions were made", n)
	}
}

func TestCommonCode(t *testing.T) {
	for n, want := range map[int32]string{4408652: "CEL", 5066068: "MMT", 0: "", 'C': "", 0x43454c01: "", 0x50314142: "P1AB", -1: ""} {
		if got, ok := commonCode(n); got != want && ok || ok != (want != "") {
			t.Errorf("%d is %q", n, got)
		}
	}
}

func TestMeanings_ArePacked(t *testing.T) {
	kinds := []meaning{{}, {"i=11", -1, "CEL"}, {"i=6", -1, ""}, {"nsu=urn:x;i=3002", -1, `"°C"`}, {"i=1", -1, ""}, {"i=11", 1, "MMT"}}
	var list []meaning
	for range 5000 {
		list = append(list, kinds[rand.N(len(kinds))])
	}
	s, err := packMeanings(list)
	if err != nil || len(s) > 4000 {
		t.Errorf("%d bytes, %v", len(s), err)
	}
	if !slices.Equal(unpackMeanings(s, len(list)), list) {
		t.Error("another list came back")
	}
	for _, bad := range []string{"", "!", s[:len(s)/2], s} {
		if n := len(unpackMeanings(bad, 7)); n != 7 {
			t.Errorf("%d meanings of 7", n)
		}
	}
	list = slices.Repeat(kinds, 800)
	if s, err = packMeanings(list); err != nil || len(s) > 400 {
		t.Errorf("machines of one kind: %d bytes, %v", len(s), err)
	}
}

func TestTypeOf(t *testing.T) {
	for kind, want := range map[uint32]mesh.Type{
		id.Boolean: mesh.TypeBool, id.Int32: mesh.TypeInt, id.Byte: mesh.TypeUint, id.Float: mesh.TypeDouble, id.String: mesh.TypeString,
		id.DateTime: mesh.TypeString, id.ByteString: mesh.TypeBytes, id.Duration: mesh.TypeDouble, id.UtcTime: mesh.TypeString, id.BaseDataType: mesh.TypeNone,
		id.Integer: mesh.TypeInt, id.UInteger: mesh.TypeUint,
	} {
		if got := typeOf(fmt.Sprintf("i=%d", kind)); got != want {
			t.Errorf("%d is %s, want %s", kind, got, want)
		}
	}
}

// A unit without a code is named in the file as the server names it.
func TestReader_AUnitByItsName(t *testing.T) {
	p := newPLC(t)
	_, level, _ := p.heat()
	p.edit(func() {
		level.unit = &ua.EUInformation{DisplayName: ua.NewLocalizedText("1/min"), Description: ua.NewLocalizedText("")}
	})
	cfg := heated()
	cfg.Signals[1].Unit = "1/min"
	r := p.run(t, cfg, nil)
	r.says(t, "1@0 7.5")
	if strings.Contains(r.told(), "drift") {
		t.Error(r.told())
	}
}

func TestReader_ADeadItemIsMadeAgainForTheSameNode(t *testing.T) {
	p := newPLC(t)
	_, b, _ := p.plant()
	r := p.run(t, pressed(), nil)
	r.says(t, "2@0 3")
	p.pass(time.Second)
	p.edit(func() { // it is removed, and another one gets its id
		gone := *p.stamped(int32(0))
		gone.Value, gone.Status = nil, ua.StatusBadNodeIDUnknown
		gone.UpdateMask()
		b.value = &gone
		p.queueOf(b)
		p.flush()
	})
	other := p.add("ns=2;s=b", "", int32(8))
	r.says(t, "1@1 !BadNodeIdUnknown")
	r.says(t, " 8")
	p.set(other, int32(9))
	r.says(t, "1@2 9")
	if n := p.count("CreateSubscriptionRequest"); n != 1 || strings.Contains(r.told(), "not connected") {
		t.Errorf("%d subscriptions were made; it says %s", n, r.told())
	}
}

func TestReader_ADeadItemIsKnownAfterARestart(t *testing.T) {
	p := newPLC(t)
	_, b, _ := p.plant()
	r := p.run(t, pressed(), nil)
	r.says(t, "2@0 3")
	p.pass(time.Second)
	p.edit(func() {
		gone := *p.stamped(int32(0))
		gone.Value, gone.Status = nil, ua.StatusBadNodeIDUnknown
		gone.UpdateMask()
		b.value = &gone
		p.queueOf(b)
		p.flush()
		delete(p.cells, "ns=2;s=b")
	})
	r.says(t, "1@1 !BadNodeIdUnknown")
	r.stop()
	other := p.add("ns=2;s=b", "", int32(8))
	r = p.run(t, pressed(), r)
	r.says(t, "1@1 8")
	p.set(other, int32(9))
	r.says(t, "1@2 9")
}
