// The peer: the codec and the edge node of Eclipse Tahu in JavaScript, and a plain
// MQTT client. It takes a line of JSON for an order and answers with a line behind ">".
// Values travel as texts, doubles as the hex of their bits, bytes as hex.
'use strict';
const Long = require('long');
const codec = require('sparkplug-payload').get('spBv1.0');
const raw = require('sparkplug-payload/lib/sparkplugPayloadProto').org.eclipse.tahu.protobuf.Payload;

const NAMES = ['Unknown', 'Int8', 'Int16', 'Int32', 'Int64', 'UInt8', 'UInt16', 'UInt32', 'UInt64', 'Float', 'Double', 'Boolean', 'String',
  'DateTime', 'Text', 'UUID', 'DataSet', 'Bytes', 'File', 'Template', 'PropertySet', 'PropertySetList'];
const code = (name) => Math.max(0, NAMES.indexOf(name));

const view = new DataView(new ArrayBuffer(8));
const toBits = (x) => { view.setFloat64(0, Number.isNaN(x) ? NaN : x); return Buffer.from(view.buffer).toString('hex'); };
const fromBits = (s) => { Buffer.from(s, 'hex').copy(Buffer.from(view.buffer)); return view.getFloat64(0); };
const some = (list) => (list.length > 0 ? list : undefined);
const hex = (b) => Buffer.from(b).toString('hex');

function plain(type, v) {
  if (v === null || v === undefined) return { type, null: true };
  switch (type) {
    case 4: return { type, is: BigInt.asIntN(64, BigInt(String(v))).toString() }; // in data sets it comes without its sign
    case 7: return { type, is: String(Number(v) >>> 0) }; // the codec gives it a sign
    case 9: case 10: return { type, is: toBits(v) };
    case 16: return { type, set: {
      columns: v.columns, types: v.types.map(code), rows: some(v.rows.map((row) => row.map((x, i) => plain(code(v.types[i]), x)))),
    } };
    case 17: case 18: return { type, is: hex(v) };
    case 19: return { type, tree: {
      version: v.version, ref: v.templateRef, definition: v.isDefinition,
      metrics: some((v.metrics || []).map(plainMetric)),
      parameters: some((v.parameters || []).map((p) => ({ name: p.name, value: plain(code(p.type), p.value) }))),
    } };
    case 20: return { type, pairs: pairs(v) };
    case 21: return { type, list: v.map(pairs) };
    default: return { type, is: String(v) };
  }
}

const pairs = (set) => Object.keys(set).map((key) => ({ key, value: plain(code(set[key].type), set[key].value) }));

function plainMetric(m) {
  return {
    name: m.name, alias: m.alias === undefined ? undefined : String(m.alias), timestamp: m.timestamp === undefined ? undefined : String(m.timestamp),
    historical: m.isHistorical, transient: m.isTransient,
    properties: m.properties && pairs(m.properties), value: plain(code(m.type), m.value),
  };
}

function made(v) {
  if (v.null) return null;
  switch (v.type) {
    case 4: return Long.fromString(v.is, false);
    case 8: case 13: return Long.fromString(v.is, true);
    case 9: case 10: return fromBits(v.is);
    case 11: return v.is === 'true';
    case 12: case 14: case 15: return v.is || '';
    case 16: return { numOfColumns: v.set.columns.length, columns: v.set.columns, types: v.set.types.map((t) => NAMES[t]), rows: (v.set.rows || []).map((r) => r.map(made)) };
    case 17: case 18: return Buffer.from(v.is || '', 'hex');
    case 19: return {
      version: v.tree.version, templateRef: v.tree.ref, isDefinition: !!v.tree.definition, metrics: (v.tree.metrics || []).map(madeMetric),
      parameters: (v.tree.parameters || []).map((p) => ({ name: p.name, type: NAMES[p.value.type], value: made(p.value) })),
    };
    case 20: return madePairs(v.pairs);
    case 21: return (v.list || []).map(madePairs);
    default: return Number(v.is);
  }
}

function madePairs(list) {
  const out = {};
  for (const p of list || []) out[p.key] = { type: NAMES[p.value.type], value: made(p.value) };
  return out;
}

function madeMetric(m) {
  return {
    name: m.name, alias: m.alias && Long.fromString(m.alias, true), timestamp: m.timestamp && Long.fromString(m.timestamp, true),
    isHistorical: m.historical, isTransient: m.transient, properties: m.properties && madePairs(m.properties), type: NAMES[m.value.type], value: made(m.value),
  };
}

const unpack = (bytes) => {
  const p = codec.decodePayload(bytes);
  return { timestamp: p.timestamp === undefined ? undefined : String(p.timestamp), seq: p.seq === undefined ? undefined : String(p.seq), metrics: (p.metrics || []).map(plainMetric) };
};
const pack = (p) => codec.encodePayload({
  timestamp: p.timestamp && Long.fromString(p.timestamp, true), seq: p.seq && Long.fromString(p.seq, true), metrics: (p.metrics || []).map(madeMetric),
});

let host, node, births = 0, commands = [];
const heard = [];

const orders = {
  decode: (o) => unpack(Buffer.from(o.bytes, 'hex')),
  encode: (o) => ({ bytes: hex(pack(o.payload)) }),
  // raw is what stands in the message, whatever the codec makes of it.
  raw: (o) => raw.toObject(raw.decode(Buffer.from(o.bytes, 'hex')), { longs: String, bytes: String }),
  // host connects somebody who hears everything.
  host: (o) => new Promise((done, failed) => {
    host = require('mqtt').connect(o.url, { protocolVersion: o.version || 4, clean: true, clientId: 'peer-host' });
    host.on('error', failed);
    host.on('message', (topic, bytes) => heard.push({ topic, bytes: hex(bytes) }));
    host.on('connect', () => host.subscribe('spBv1.0/#', { qos: 1 }, () => done({})));
  }),
  publish: (o) => new Promise((done, failed) => host.publish(o.topic, Buffer.from(o.bytes, 'hex'), { qos: o.qos || 0, retain: !!o.retain }, (err) => (err ? failed(err) : done({})))),
  heard: () => ({ heard: heard.splice(0) }),
  // node is an edge node, born at each connect and when somebody asks for it.
  node: (o) => new Promise((done, failed) => {
    node = require('sparkplug-client').newClient({
      serverUrl: o.url, username: 'peer', password: 'peer', groupId: o.group, edgeNode: o.name, clientId: 'peer-node', version: 'spBv1.0', keepalive: 5, publishDeath: true,
    });
    const birth = () => {
      births++;
      node.publishNodeBirth({ timestamp: o.node.timestamp && Number(o.node.timestamp), metrics: o.node.metrics.map(madeMetric) });
      for (const d of o.devices) node.publishDeviceBirth(d.id, { timestamp: Number(d.birth.timestamp), metrics: d.birth.metrics.map(madeMetric) });
    };
    node.on('error', failed);
    node.on('birth', () => { birth(); done({}); });
    node.on('ncmd', (p) => {
      const names = p.metrics.map((m) => m.name);
      commands = commands.concat(names);
      if (p.metrics.some((m) => m.name === 'Node Control/Rebirth' && m.value)) birth();
    });
  }),
  data: (o) => { node.publishDeviceData(o.id, { timestamp: Number(o.payload.timestamp), metrics: o.payload.metrics.map(madeMetric) }, o.compress ? { compress: true } : undefined); return {}; },
  leave: (o) => { node.publishDeviceDeath(o.id, { timestamp: Number(o.timestamp) }); return {}; },
  asked: () => ({ births, commands }),
  stop: () => { node.stop(); return {}; },
};

let last = Promise.resolve();
require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  last = last.then(async () => {
    let answer;
    try {
      const order = JSON.parse(line);
      answer = await orders[order.do](order);
    } catch (err) {
      answer = { error: String(err && err.message || err) };
    }
    process.stdout.write('>' + JSON.stringify(answer) + '\n');
  });
}).on('close', () => process.exit(0));
