"use strict";
// An OPC UA server with a press: its temperature has an alarm and a history. As in
// server.js each line of stdin is an order, answered by one line of stdout.
const readline = require("node:readline");
const opcua = require("node-opcua");

const { DataType, SecurityPolicy, MessageSecurityMode, StatusCodes } = opcua;

let cfg, server, temp, alarm;
const raised = []; // the events at the Server object that an alarm gave: id and branch

const say = (o) => process.stdout.write(">" + JSON.stringify(o) + "\n");

async function begin() {
  const manager = new opcua.OPCUACertificateManager({ automaticallyAcceptUnknownCertificate: true, rootFolder: `${cfg.dir}/pki` });
  await manager.initialize();
  server = new opcua.OPCUAServer({
    port: cfg.port, hostname: "127.0.0.1", alternateHostname: ["127.0.0.1"], resourcePath: "/", disableDiscovery: true,
    serverCertificateManager: manager, userCertificateManager: manager, serverInfo: { applicationUri: cfg.uri },
    certificateFile: cfg.cert, privateKeyFile: cfg.key,
    securityPolicies: [SecurityPolicy.None], securityModes: [MessageSecurityMode.None], allowAnonymous: true,
    serverCapabilities: { minSupportedSampleRate: 0 },
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  space.installAlarmsAndConditionsService();
  const ns = space.registerNamespace(cfg.plant);
  const press = ns.addObject({ organizedBy: space.rootFolder.objects, notifierOf: space.rootFolder.objects.server, nodeId: `ns=${ns.index};s=press`, browseName: "press" });
  temp = ns.addVariable({
    componentOf: press, eventSourceOf: press, nodeId: `ns=${ns.index};s=temp`, browseName: "temp", dataType: "Double", minimumSamplingInterval: 0,
    value: { dataType: DataType.Double, value: 20 },
  });
  if (!cfg.amnesic) space.installHistoricalDataNode(temp, { maxOnlineValues: cfg.history || 100000 });
  alarm = ns.instantiateNonExclusiveLimitAlarm("NonExclusiveLimitAlarmType", {
    browseName: "hot", conditionName: "too hot", nodeId: `ns=${ns.index};s=hot`, componentOf: press, conditionSource: temp, inputNode: temp,
    highHighLimit: 120, highLimit: 80, lowLimit: -100, lowLowLimit: -200, optionals: ["ConfirmedState", "Confirm"],
  });
  alarm.setEnabledState(true);
  const jam = ns.addEventType({ browseName: "JamEventType", subtypeOf: "BaseEventType", nodeId: `ns=${ns.index};s=JamEventType` });
  const property = (browseName, dataType) => ns.addVariable({ propertyOf: jam, browseName, dataType, modellingRule: "Mandatory" });
  property("Position", "Double");
  property("Station", "UInt16");
  property("Part", "String");
  alarm.on("event", (e) => e.branchId && raised.push(e.eventId.value.toString("hex") + " " + e.branchId.value.toString().replace(/^(ns=\d+;)?(i=0)?/, "")));
  await server.start();
}

const orders = {
  set: ({ value, at }) => temp.setValueFromSource({ dataType: DataType.Double, value }, StatusCodes.Good, at ? new Date(at) : new Date()),
  acknowledge: () => alarm.acknowledgeAndAutoConfirmBranch(alarm.currentBranch(), "seen"),
  raise: ({ message, severity }) => server.engine.addressSpace.rootFolder.objects.server.raiseEvent("BaseEventType", {
    message: { dataType: DataType.LocalizedText, value: { text: message } }, severity: { dataType: DataType.UInt16, value: severity },
  }),
  // An event of a type of this plant's, with what that has of its own.
  jam: ({ position, station, part }) => server.engine.addressSpace.rootFolder.objects.server.raiseEvent(server.engine.addressSpace.findEventType("JamEventType", temp.nodeId.namespace), {
    message: { dataType: DataType.LocalizedText, value: { text: "jammed" } }, severity: { dataType: DataType.UInt16, value: 400 },
    position: { dataType: DataType.Double, value: position }, station: { dataType: DataType.UInt16, value: station }, part: { dataType: DataType.String, value: part },
  }),
  // What a server says in the place of events that its queue had no room for.
  overflow: () => server.engine.addressSpace.rootFolder.objects.server.raiseEvent("EventQueueOverflowEventType", {
    message: { dataType: DataType.LocalizedText, value: { text: "events lost" } }, severity: { dataType: DataType.UInt16, value: 1 },
  }),
  raised: () => ({ raised }),
  // The subscriptions are forgotten, with their queues; the client finds out.
  forget: () => {
    for (const s of Object.values(server.engine._sessions)) server.engine.closeSession(s.authenticationToken, true, "Timeout");
    for (const e of server.endpoints) e.abruptlyInterruptChannels();
  },
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const o = JSON.parse(line);
  try {
    if (!cfg) {
      cfg = o;
      await begin();
      say({});
      return;
    }
    say((await orders[o.do](o)) || {});
  } catch (err) {
    say({ error: String(err.stack) });
  }
}).on("close", () => process.exit(0));
