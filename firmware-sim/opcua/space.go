package opcua

import (
	"io"
	"log"
	"strings"
	"sync"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"

	"plantmesh/firmware-sim/plant"
)

// Namespace indexes of this server. Clients find them in the namespace array.
const (
	nsOwn       = 2
	nsDI        = 3
	nsMachinery = 4
	nsPackML    = 5
)

// Numeric ids of the companion specifications' entry points (OPC 40001-1 and
// OPC 30050, nodesets of 2024).
const (
	machinesFolder = 1001 // Machinery: Machines, under Objects
	packMLObjects  = 72   // PackML: PackMLObjects, under Objects
	identification = 1012 // Machinery: MachineIdentificationType
	packMLBase     = 6    // PackML: PackMLBaseObjectType
)

// entry is one node of ours.
type entry struct {
	id       *ua.NodeID
	class    ua.NodeClass
	browse   *ua.QualifiedName
	typ      *ua.NodeID // type definition
	dataType *ua.NodeID // of a variable
	fixed    *ua.Variant
	children []child
	parent   *entry
	by       uint32 // reference type from the parent
}

type child struct {
	ref uint32 // reference type in namespace 0
	to  *entry
}

// space is the address space: namespace 0 of the library and our own nodes
// under its Objects folder. Never changed after newSpace.
type space struct {
	server *Server
	zero   server.NameSpace
	uris   []string
	nodes  map[string]*entry // by node id
	roots  []child           // under Objects
}

func newSpace(s *Server, zero server.NameSpace, signals []plant.Signal) *space {
	p := &space{
		server: s,
		zero:   zero,
		uris: []string{
			"http://opcfoundation.org/UA/", Namespace + ":" + s.cfg.Source, Namespace,
			"http://opcfoundation.org/UA/DI/", "http://opcfoundation.org/UA/Machinery/", "http://opcfoundation.org/UA/PackML/",
		},
		nodes: map[string]*entry{},
	}
	machines := p.object(nil, id.Organizes, ua.NewNumericNodeID(nsMachinery, machinesFolder), nsMachinery, "Machines", ua.NewNumericNodeID(0, id.FolderType))
	packml := p.object(nil, id.Organizes, ua.NewNumericNodeID(nsPackML, packMLObjects), nsPackML, "PackMLObjects", ua.NewNumericNodeID(0, id.FolderType))
	b := &builder{space: p, machines: machines, packml: packml}
	for _, sig := range signals {
		if sig.Source == s.cfg.Source {
			b.add(sig)
		}
	}
	return p
}

// zero is namespace 0 of every server: it is only read, and building it takes as
// long as all the rest of a start.
var zero = sync.OnceValue(namespaceZero) //nolint:gochecknoglobals // never changes

// namespaceZero is the library's namespace 0. Building it takes 0.2 s and
// narrates on the standard logger, which nobody else here uses.
func namespaceZero() server.NameSpace {
	out := log.Writer()       //nolint:forbidigo // silenced, not used
	log.SetOutput(io.Discard) //nolint:forbidigo // silenced, not used
	defer log.SetOutput(out)  //nolint:forbidigo // as before
	return server.New().Namespaces()[0]
}

// builder hangs signals into the tree, machine by machine.
type builder struct {
	*space

	machines, packml *entry
}

func (b *builder) add(sig plant.Signal) {
	machine, _, _ := cutLast(sig.Name)
	parent, ns, name := b.place(machine, role(sig.Name))
	v := b.variable(parent, id.HasComponent, text(sig.Name), ns, name, dataType(sig))
	if sig.Unit != "" {
		b.unit(v, sig)
	}
}

// place says where a role stands: the names of PackML where it has one, else
// the machine's Monitoring.
func (b *builder) place(machine, role string) (parent *entry, ns uint16, name string) {
	const status, admin = "Status", "Admin"
	for _, p := range []struct{ role, folder, name string }{
		{"state", status, "StateCurrent"},
		{"mode", status, "UnitModeCurrent"},
		{"speed", status, "CurMachSpeed"},
		{"blocked", status, "EquipmentBlocked"},
		{"starved", status, "EquipmentStarved"},
		{"produced", admin, "ProdProcessedCount"},
		{"scrap", admin, "ProdDefectiveCount"},
		{"stop_reason", admin, "StopReason"},
	} {
		if p.role == role {
			return b.folder(b.packMLOf(machine), machine+".packml."+p.folder, nsPackML, p.folder), nsPackML, p.name
		}
	}
	group := "Monitoring"
	if role == "order" || role == "product" {
		group = "Production"
	}
	return b.folder(b.machineOf(machine), machine+"."+group, nsMachinery, group), nsOwn, role
}

func (b *builder) machineOf(machine string) *entry {
	if e := b.nodes[text(machine).String()]; e != nil {
		return e
	}
	label := strings.ReplaceAll(machine, ".", "-")
	e := b.object(b.machines, id.Organizes, text(machine), nsOwn, label, ua.NewNumericNodeID(0, id.BaseObjectType))
	ident := b.object(e, id.HasAddIn, text(machine+".Identification"), nsDI, "Identification", ua.NewNumericNodeID(nsMachinery, identification))
	for _, p := range []struct{ name, value string }{
		{"Manufacturer", "Plantmesh firmware-sim"},
		{"SerialNumber", label},
		{"ProductInstanceUri", Namespace + ":" + label},
	} {
		v := b.variable(ident, id.HasProperty, text(machine+".Identification."+p.name), nsDI, p.name, id.String)
		v.fixed = ua.MustVariant(p.value)
	}
	return e
}

func (b *builder) packMLOf(machine string) *entry {
	if e := b.nodes[text(machine+".packml").String()]; e != nil {
		return e
	}
	label := strings.ReplaceAll(machine, ".", "-")
	return b.object(b.packml, id.Organizes, text(machine+".packml"), nsOwn, label, ua.NewNumericNodeID(nsPackML, packMLBase))
}

func (b *builder) folder(parent *entry, name string, ns uint16, browse string) *entry {
	if e := b.nodes[text(name).String()]; e != nil {
		return e
	}
	return b.object(parent, id.HasComponent, text(name), ns, browse, ua.NewNumericNodeID(0, id.BaseObjectType))
}

// unit hangs EngineeringUnits under a variable. The numeric unit id is the
// UNECE common code read as a number (OPC 10000-8 §5.6.4.3).
func (b *builder) unit(v *entry, sig plant.Signal) {
	var code int32
	for _, c := range []byte(sig.Unit) {
		code = code<<8 | int32(c)
	}
	u := b.variable(v, id.HasProperty, text(sig.Name+".EngineeringUnits"), 0, "EngineeringUnits", id.EUInformation)
	u.fixed = ua.MustVariant(ua.NewExtensionObject(&ua.EUInformation{
		NamespaceURI: "http://www.opcfoundation.org/UA/units/un/cefact",
		UnitID:       code,
		DisplayName:  ua.NewLocalizedText(sig.Unit),
		Description:  ua.NewLocalizedText(sig.Unit),
	}))
	v.typ = ua.NewNumericNodeID(0, id.AnalogUnitType)
}

func (p *space) object(parent *entry, ref uint32, nid *ua.NodeID, ns uint16, browse string, typ *ua.NodeID) *entry {
	return p.hang(parent, ref, &entry{id: nid, class: ua.NodeClassObject, browse: &ua.QualifiedName{NamespaceIndex: ns, Name: browse}, typ: typ})
}

func (p *space) variable(parent *entry, ref uint32, nid *ua.NodeID, ns uint16, browse string, dataType uint32) *entry {
	typ := uint32(id.BaseDataVariableType)
	if ref == id.HasProperty {
		typ = id.PropertyType
	}
	return p.hang(parent, ref, &entry{
		id: nid, class: ua.NodeClassVariable, browse: &ua.QualifiedName{NamespaceIndex: ns, Name: browse},
		typ: ua.NewNumericNodeID(0, typ), dataType: ua.NewNumericNodeID(0, dataType),
	})
}

func (p *space) hang(parent *entry, ref uint32, e *entry) *entry {
	e.parent, e.by = parent, ref
	p.nodes[e.id.String()] = e
	if parent == nil {
		p.roots = append(p.roots, child{ref, e})
	} else {
		parent.children = append(parent.children, child{ref, e})
	}
	return e
}

func text(name string) *ua.NodeID { return ua.NewStringNodeID(nsOwn, name) }

func cutLast(name string) (before, after string, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return name, "", false
	}
	return name[:i], name[i+1:], true
}

func dataType(sig plant.Signal) uint32 {
	switch sig.Type {
	case plant.Bool:
		return id.Boolean
	case plant.Int:
		if wide(sig) {
			return id.Int64
		}
		return id.Int32
	case plant.Double:
		return id.Double
	case plant.String:
		return id.String
	case plant.None:
	}
	return id.BaseDataType
}

// has says whether a node exists.
func (p *space) has(nid *ua.NodeID) bool {
	if nid.Namespace() == 0 {
		return p.zero.Node(nid) != nil
	}
	return p.nodes[nid.String()] != nil
}

// value is the value of a node that is not a signal, or nil. began and now are
// the server's clock.
func (p *space) value(nid *ua.NodeID, began, now time.Time) *ua.DataValue {
	if nid.Namespace() == 0 {
		switch nid.IntID() {
		case id.Server_NamespaceArray:
			return fixed(ua.MustVariant(p.uris))
		case id.Server_ServerStatus_CurrentTime:
			return clockAt(now)
		case id.Server_ServerStatus_StartTime:
			return stamped(ua.MustVariant(began), now)
		case id.Server_ServerStatus:
			return statusAt(began, now)
		}
		return p.zero.Attribute(nid, ua.AttributeIDValue)
	}
	if e := p.nodes[nid.String()]; e != nil && e.fixed != nil {
		return fixed(e.fixed)
	}
	return nil
}

func fixed(v *ua.Variant) *ua.DataValue {
	return &ua.DataValue{EncodingMask: ua.DataValueValue, Value: v}
}

// attribute is any attribute but the value.
func (p *space) attribute(nid *ua.NodeID, attr ua.AttributeID) *ua.DataValue {
	if nid.Namespace() == 0 {
		return p.zero.Attribute(nid, attr)
	}
	e := p.nodes[nid.String()]
	if e == nil {
		return bad(ua.StatusBadNodeIDUnknown)
	}
	switch attr { //nolint:exhaustive // the rest a node of ours doesn't have
	case ua.AttributeIDNodeID:
		return fixed(ua.MustVariant(e.id))
	case ua.AttributeIDNodeClass:
		return fixed(ua.MustVariant(int32(e.class)))
	case ua.AttributeIDBrowseName:
		return fixed(ua.MustVariant(e.browse))
	case ua.AttributeIDDisplayName, ua.AttributeIDDescription:
		return fixed(ua.MustVariant(ua.NewLocalizedText(e.browse.Name)))
	case ua.AttributeIDWriteMask, ua.AttributeIDUserWriteMask:
		return fixed(ua.MustVariant(uint32(0)))
	case ua.AttributeIDEventNotifier:
		if e.class == ua.NodeClassObject {
			return fixed(ua.MustVariant(uint8(0)))
		}
	}
	if e.class != ua.NodeClassVariable {
		return bad(ua.StatusBadAttributeIDInvalid)
	}
	return p.variableAttribute(e, attr)
}

func (p *space) variableAttribute(e *entry, attr ua.AttributeID) *ua.DataValue {
	access := uint8(ua.AccessLevelTypeCurrentRead)
	signal := p.server.signal(e.id) != nil
	if signal && !p.server.cfg.Forgetful {
		access |= uint8(ua.AccessLevelTypeHistoryRead)
	}
	switch attr { //nolint:exhaustive // the rest a variable of ours doesn't have
	case ua.AttributeIDDataType:
		return fixed(ua.MustVariant(e.dataType))
	case ua.AttributeIDValueRank:
		return fixed(ua.MustVariant(int32(-1))) // scalar
	case ua.AttributeIDAccessLevel, ua.AttributeIDUserAccessLevel:
		return fixed(ua.MustVariant(access))
	case ua.AttributeIDMinimumSamplingInterval:
		return fixed(ua.MustVariant(float64(0))) // every change
	case ua.AttributeIDHistorizing:
		return fixed(ua.MustVariant(signal && !p.server.cfg.Forgetful))
	}
	return bad(ua.StatusBadAttributeIDInvalid)
}
