// An OPC UA server with machines of the companion specifications, a loop of
// folders, and BIG variables below one folder. It says its endpoint, and ends with
// its standard input.
const { OPCUAServer, OPCUACertificateManager, DataType, SecurityPolicy, MessageSecurityMode, StatusCodes, nodesets, standardUnits } = require("node-opcua");
const path = require("path");

const big = +(process.env.BIG || 0), specs = process.env.SPECS === "yes", wary = process.env.WARY === "yes";

function machines(space) {
  const own = space.getOwnNamespace();
  const type = (name, uri) => space.findObjectType(name, space.getNamespaceIndex(uri));
  const ua = (s) => `http://opcfoundation.org/UA/${s}/`;
  const di = space.getNamespaceIndex(ua("DI")), machinery = space.getNamespaceIndex(ua("Machinery")), packml = space.getNamespaceIndex(ua("PackML"));
  const folder = space.rootFolder.objects.getFolderElementByName("Machines", machinery);

  const press = own.addObject({ browseName: "Hall2-Press", organizedBy: folder });
  const id = type("MachineIdentificationType", ua("Machinery")).instantiate({ browseName: { name: "Identification", namespaceIndex: di }, addInOf: press, optionals: ["Model"] });
  id.getPropertyByName("Manufacturer", di).setValueFromSource({ dataType: DataType.LocalizedText, value: { text: "Works" } });
  const blocks = own.addObject({ browseName: { name: "MachineryBuildingBlocks", namespaceIndex: machinery }, componentOf: press, typeDefinition: "FolderType" });
  const state = type("MachineryItemState_StateMachineType", ua("Machinery")).instantiate({ browseName: { name: "MachineryItemState", namespaceIndex: machinery }, addInOf: blocks, optionals: ["CurrentState.Number"] });
  state.getComponentByName("CurrentState", 0).getPropertyByName("Number", 0)?.setValueFromSource({ dataType: DataType.UInt32, value: 3 });
  const counters = type("MachineryOperationCounterType", ua("Machinery")).instantiate({ browseName: { name: "OperationCounters", namespaceIndex: di }, addInOf: blocks, optionals: ["PowerOnDuration", "OperationDuration"] });
  counters.getPropertyByName("OperationDuration", di).setValueFromSource({ dataType: DataType.Double, value: 3.6e6 });
  own.addAnalogDataItem({ componentOf: press, browseName: "OilTemperature", nodeId: "s=oil", dataType: "Double", engineeringUnitsRange: { low: 0, high: 120 }, engineeringUnits: standardUnits.degree_celsius, value: { dataType: DataType.Double, value: 41.5 } });
  let energy = 0;
  const meter = own.addVariable({ componentOf: press, browseName: "energy", nodeId: "s=energy", dataType: "Double", value: { dataType: DataType.Double, value: 0 } });
  setInterval(() => meter.setValueFromSource({ dataType: DataType.Double, value: ++energy }), 250);

  type("MachineToolType", ua("MachineTool")).instantiate({ browseName: "Mill", organizedBy: folder, optionals: ["Monitoring.Stacklight"] });

  const line = space.rootFolder.objects.getFolderElementByName("PackMLObjects", packml);
  const packer = type("PackMLBaseObjectType", ua("PackML")).instantiate({ browseName: "Packer", organizedBy: line, optionals: ["Status.EquipmentBlocked"] });
  const status = packer.getComponentByName("Status", packml);
  own.addVariable({ componentOf: status, browseName: { name: "StateCurrent", namespaceIndex: packml }, nodeId: "s=state", dataType: "Int32", value: { dataType: DataType.Int32, value: 6 } });

  const ws = type("WSMachineType", ua("Weihenstephan"));
  ws.instantiate({ browseName: "Filler", organizedBy: own.addFolder("ObjectsFolder", { browseName: "Cellar" }) });
  devices(space, own, type, ua, press);
}

// Machines of DI: one in its DeviceSet, one elsewhere; a device in the press is none.
// Of IA: one by its stack light alone.
function devices(space, own, type, ua, press) {
  const di = space.getNamespaceIndex(ua("DI")), ia = space.getNamespaceIndex(ua("IA"));
  const oven = own.addObjectType({ browseName: "OvenType", subtypeOf: type("DeviceType", ua("DI")) });
  const set = space.rootFolder.objects.getFolderElementByName("DeviceSet", di);
  const hall = own.addFolder("ObjectsFolder", { browseName: "Hall3" });
  for (const [name, at] of [["Hall3-Oven", { componentOf: set }], ["Hall3-Dryer", { organizedBy: hall }]]) {
    const device = oven.instantiate({ browseName: name, ...at, optionals: ["DeviceHealth", "ParameterSet"] });
    device.getComponentByName("DeviceHealth", di).setValueFromSource({ dataType: DataType.Int32, value: 2 });
    own.addAnalogDataItem({ componentOf: device.getComponentByName("ParameterSet", di), browseName: "Temperature", nodeId: `s=${name}.temperature`, dataType: "Double", engineeringUnitsRange: { low: 0, high: 300 }, engineeringUnits: standardUnits.degree_celsius, value: { dataType: DataType.Double, value: 180 } });
  }
  oven.instantiate({ browseName: "Heater", componentOf: press, optionals: ["DeviceHealth"] }).getComponentByName("DeviceHealth", di).setValueFromSource({ dataType: DataType.Int32, value: 0 });
  const lathe = own.addObject({ browseName: "Hall3-Lathe", organizedBy: hall });
  own.addVariable({ componentOf: lathe, browseName: "produced", nodeId: "s=lathe.produced", dataType: "UInt32", value: { dataType: DataType.UInt32, value: 12 } });
  const light = type("BasicStacklightType", ua("IA")).instantiate({ browseName: "Light", componentOf: lathe });
  const lamp = type("StackElementLightType", ua("IA")).instantiate({ browseName: "Lamp1", componentOf: light, optionals: ["SignalOn"] });
  lamp.getPropertyByName("SignalOn", ia).setValueFromSource({ dataType: DataType.Boolean, value: true });
}

(async () => {
  const dir = process.env.DIR;
  const managers = {};
  if (dir) {
    for (const [key, name] of [["serverCertificateManager", "pki"], ["userCertificateManager", "upki"]]) {
      managers[key] = new OPCUACertificateManager({ automaticallyAcceptUnknownCertificate: !wary, rootFolder: path.join(dir, name), name });
      await managers[key].initialize();
    }
  }
  const open = !dir;
  const server = new OPCUAServer({
    port: +process.env.PORT, hostname: "127.0.0.1", resourcePath: "/UA/plant", allowAnonymous: true, disableDiscovery: true, ...managers,
    securityPolicies: open ? [SecurityPolicy.None] : [SecurityPolicy.None, SecurityPolicy.Basic256Sha256],
    securityModes: open ? [MessageSecurityMode.None] : [MessageSecurityMode.None, MessageSecurityMode.SignAndEncrypt],
    nodeset_filename: specs ? [nodesets.standard, nodesets.di, nodesets.ia, nodesets.machinery, nodesets.isa95JobControl, nodesets.machineryJobs, nodesets.packML, nodesets.machineTool, nodesets.weihenstephan] : [nodesets.standard],
  });
  await server.initialize();
  const space = server.engine.addressSpace, own = space.getOwnNamespace();
  if (specs) machines(space);
  const ring = ["Ring1", "Ring2", "Ring3"].map((name) => own.addObject({ browseName: name, nodeId: `s=${name}`, typeDefinition: "FolderType" }));
  space.rootFolder.objects.addReference({ referenceType: "Organizes", nodeId: ring[0] });
  ring.forEach((r, i) => r.addReference({ referenceType: "Organizes", nodeId: ring[(i + 1) % ring.length] }));
  const folder = own.addFolder("ObjectsFolder", { browseName: "Big", nodeId: "s=Big" });
  for (let i = 0; i < big; i++) {
    own.addVariable({ componentOf: folder, nodeId: `s=b${i}`, browseName: `b${i}`, dataType: "Double", value: { dataType: DataType.Double, value: i } });
  }
  await server.start();
  console.log("ready " + server.getEndpointUrl());
  process.stdin.on("end", () => process.exit(0)).resume();
})().catch((e) => { console.error(e); process.exit(1); });
