"use strict";
// An OPC UA server under test: counters whose values and source time stamps
// follow from the clock, so that every one that is missing is known. The first
// line of stdin says what it is, each further line is an order; each is answered
// by one line of stdout that begins with ">".
const fs = require("node:fs");
const readline = require("node:readline");
const opcua = require("node-opcua");
const { readCertificate, readCertificateChain, readPrivateKey } = require("node-opcua-crypto");

const { DataType, MessageSecurityMode, SecurityPolicy, StatusCodes } = opcua;

let cfg, server, users, clients;
const counters = []; // nodes, by their number; null: taken away
const counts = {}; // requests, by name
let press; // the machine of the order of that name
let at = 0; // the tick that was set last

const say = (o) => process.stdout.write(">" + JSON.stringify(o) + "\n");
const tickOf = (ms) => Math.floor((ms - cfg.base) / cfg.period);
const stamp = (k) => new Date(cfg.base + k * cfg.period);
const valueOf = (i, k) => ({ dataType: DataType.Double, value: i * 1e8 + k });

function set(i, k) {
  counters[i].setValueFromSource(valueOf(i, k), StatusCodes.Good, stamp(k));
}

// Ticks that came late are made up for, each with its own stamp.
function tick() {
  for (const now = tickOf(Date.now()); at < now; ) {
    at++;
    for (let i = 0; i < counters.length; i++) if (counters[i]) set(i, at);
  }
}

function add(i) {
  const space = server.engine.addressSpace;
  const ns = space.getNamespaceIndex(cfg.plant);
  counters[i] = space.getNamespace(ns).addVariable({
    organizedBy: space.rootFolder.objects, nodeId: `ns=${ns};s=v${i}`, browseName: `v${i}`, dataType: "Double",
    minimumSamplingInterval: 0, value: valueOf(i, at),
  });
  set(i, at);
}

// A provider of the certificate and key in two PEM files.
function identity({ cert, key }) {
  const chain = readCertificateChain(cert);
  const secret = readPrivateKey(key);
  return { getCertificate: () => chain[0], getCertificateChain: () => chain, getPrivateKey: () => secret, invalidate: () => {} };
}

async function begin() {
  const managers = ["clients", "users"].map((name) => new opcua.OPCUACertificateManager({
    automaticallyAcceptUnknownCertificate: name === "clients" ? !cfg.wary : false, rootFolder: `${cfg.dir}/${name}`, name,
  }));
  for (const m of managers) {
    const own = `${m.rootDir}/own/private`; // else each takes a second to make a key that nobody asks for
    fs.mkdirSync(own, { recursive: true });
    fs.copyFileSync(cfg.key, `${own}/private_key.pem`);
    await m.initialize();
  }
  [clients, users] = managers;
  server = new opcua.OPCUAServer({
    port: cfg.port, hostname: "127.0.0.1", alternateHostname: ["127.0.0.1"], resourcePath: "/", disableDiscovery: true,
    serverInfo: { applicationUri: cfg.uri, productUri: "urn:plantmesh:test" },
    certificateFile: cfg.cert, privateKeyFile: cfg.key, serverCertificateManager: clients, userCertificateManager: users,
    securityPolicies: [SecurityPolicy.None, SecurityPolicy.Basic256Sha256, SecurityPolicy.Aes128_Sha256_RsaOaep, SecurityPolicy.Aes256_Sha256_RsaPss],
    securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
    userManager: { isValidUser: (u, p) => u === "anna" && p === "open sesame" },
    defaultSecureTokenLifetime: cfg.token || 600000, maxConnectionsPerEndpoint: 100,
    serverCapabilities: { minSupportedSampleRate: 0, // else changes of one moment are folded
      maxSessions: 100, maxMonitoredItems: 50000, maxMonitoredItemsPerSubscription: 20000, maxMonitoredItemsPerCall: 5000 },
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  for (const uri of cfg.namespaces) {
    const ns = space.registerNamespace(uri);
    if (uri === cfg.plant) continue;
    for (let i = 0; i < cfg.items; i++) { // who takes these for the counters has taken the wrong namespace
      ns.addVariable({ organizedBy: space.rootFolder.objects, nodeId: `ns=${ns.index};s=v${i}`, browseName: `v${i}`, dataType: "Double", minimumSamplingInterval: 0, value: { dataType: DataType.Double, value: -1 } });
    }
  }
  at = tickOf(Date.now());
  for (let i = 0; i < cfg.items; i++) add(i);
  await server.start();
  for (const e of server.endpoints) {
    e.on("newChannel", (c) => c.on("message", (m) => {
      const name = m.request.schema.name;
      counts[name] = (counts[name] || 0) + 1;
    }));
  }
  setInterval(tick, Math.min(cfg.period, 50));
}

const orders = {
  counts: () => ({ counts }),
  tick: () => ({ tick: at, namespaces: server.engine.addressSpace.getNamespaceArray().map((n) => n.namespaceUri) }),
  sessions: () => ({
    sessions: Object.values(server.engine._sessions).filter((s) => s.channel)
      .map((s) => `${s.channel.securityPolicy.split("#")[1]} ${MessageSecurityMode[s.channel.securityMode]}`),
  }),
  remove: ({ node }) => {
    server.engine.addressSpace.deleteNode(counters[node]);
    counters[node] = null;
    return { tick: at };
  },
  add: ({ node }) => add(node),
  expire: ({ name, forget }) => { // as its timeout would; with its subscriptions or without
    for (const s of Object.values(server.engine._sessions)) {
      if (s.sessionName === name) server.engine.closeSession(s.authenticationToken, forget, "Timeout");
    }
  },
  certificate: (files) => { // and whoever is connected must come again
    const p = identity(files);
    server.setProvider(p);
    for (const e of server.endpoints) {
      e.setCertificateProvider(p);
      e.abruptlyInterruptChannels();
    }
  },
  press: ({ speed }) => { // a machine whose speed has a unit and a range, under this node id
    const space = server.engine.addressSpace;
    const ns = space.getNamespace(cfg.plant);
    if (press) space.deleteNode(press);
    press = ns.addObject({ organizedBy: space.rootFolder.objects, browseName: "Press", nodeId: "s=press" });
    ns.addAnalogDataItem({ componentOf: press, browseName: "Speed", nodeId: `s=${speed}`, dataType: "Double", minimumSamplingInterval: 0,
      engineeringUnitsRange: { low: 0, high: 200 }, engineeringUnits: opcua.standardUnits.degree_celsius, value: { dataType: DataType.Double, value: 0 } });
    ns.addVariable({ componentOf: press, browseName: "Plain", nodeId: "s=plain", dataType: "Double", minimumSamplingInterval: 0, value: { dataType: DataType.Double, value: 0 } });
  },
  put: ({ node, value }) => {
    const space = server.engine.addressSpace;
    const v = space.findNode(`ns=${space.getNamespaceIndex(cfg.plant)};s=${node}`);
    v.setValueFromSource({ dataType: DataType.Double, value });
  },
  unit: ({ node, unit }) => {
    const space = server.engine.addressSpace;
    const v = space.findNode(`ns=${space.getNamespaceIndex(cfg.plant)};s=${node}`);
    v.engineeringUnits.setValueFromSource({ dataType: DataType.ExtensionObject, value: opcua.standardUnits[unit] });
  },
  limits: (limits) => void Object.assign(server.engine.serverCapabilities.operationLimits, limits),
  users: async ({ trust }) => void (await users.trustCertificate(readCertificate(trust))),
  stop: async () => {
    await server.shutdown(0);
    setImmediate(() => process.exit(0));
  },
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const o = JSON.parse(line);
  try {
    if (!cfg) {
      cfg = o;
      await begin();
      return say({ tick: at });
    }
    say((await orders[o.do](o)) || {});
  } catch (e) {
    say({ error: e.stack });
  }
}).on("close", () => process.exit(0));
