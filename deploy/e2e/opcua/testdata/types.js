"use strict";
// An OPC UA server whose values are of all kinds: arrays, enumerations and
// structures. The first line of stdin says what it is, each further line is an
// order; each is answered by one line of stdout that begins with ">".
const readline = require("node:readline");
const fs = require("node:fs");
const path = require("node:path");
const opcua = require("node-opcua");

const { DataType, VariantArrayType } = opcua;
const uri = "urn:plantmesh:types";

let server, space, ns;
const say = (o) => process.stdout.write(">" + JSON.stringify(o) + "\n");

function variable(name, dataType, value, more) {
  return space.getOwnNamespace().addVariable({ organizedBy: space.rootFolder.objects, nodeId: `s=${name}`, browseName: name, dataType, minimumSamplingInterval: 0, value, ...more });
}

const type = (name) => space.findDataType(name, ns);
const make = (name, fields) => space.constructExtensionObject(type(name), fields);
const structure = (value) => ({ dataType: DataType.ExtensionObject, value });

function job(n) {
  const fields = { name: `job ${n}`, mode: 5, path: [{ x: n, y: 0.5 }, { x: -1, y: 2 }], result: { torque: 12.5 }, tags: ["a", "ä"] };
  if (n % 2) Object.assign(fields, { count: n, result: { at: { x: 7, y: 8 } } });
  return structure(make("Job", fields));
}

async function begin(cfg) {
  let types = fs.readFileSync(path.join(__dirname, "types.xml"), "utf8");
  for (const [from, to] of cfg.changes || []) types = types.replaceAll(from, to); // another firmware
  const file = path.join(cfg.dir, "types.xml");
  fs.writeFileSync(file, types);
  server = new opcua.OPCUAServer({
    port: cfg.port, hostname: "127.0.0.1", alternateHostname: ["127.0.0.1"], resourcePath: "/", disableDiscovery: true,
    nodeset_filename: [opcua.nodesets.standard, file],
    certificateFile: cfg.cert, privateKeyFile: cfg.key,
    serverCertificateManager: new opcua.OPCUACertificateManager({ automaticallyAcceptUnknownCertificate: true, rootFolder: `${cfg.dir}/clients` }),
    serverInfo: { applicationUri: cfg.uri },
  });
  await server.initialize();
  space = server.engine.addressSpace;
  ns = space.getNamespaceIndex(uri);
  variable("doubles", "Double", { dataType: DataType.Double, arrayType: VariantArrayType.Array, value: new Float64Array([1.5, -2, 1e300]) }, { valueRank: 1 });
  variable("matrix", "Int32", { dataType: DataType.Int32, arrayType: VariantArrayType.Matrix, dimensions: [2, 3], value: new Int32Array([1, 2, 3, 4, 5, 6]) }, { valueRank: 2, arrayDimensions: [2, 3] });
  variable("mixed", "BaseDataType", { dataType: DataType.Variant, arrayType: VariantArrayType.Array, value: [new opcua.Variant({ dataType: "Double", value: 2.5 }), new opcua.Variant({ dataType: "String", value: "x" })] }, { valueRank: 1 });
  variable("texts", "LocalizedText", { dataType: DataType.LocalizedText, arrayType: VariantArrayType.Array, value: [{ locale: "de", text: "Halt" }, { text: "stop" }] }, { valueRank: 1 });
  variable("mode", type("Mode"), { dataType: DataType.Int32, value: 5 });
  variable("modes", type("Mode"), { dataType: DataType.Int32, arrayType: VariantArrayType.Array, value: new Int32Array([0, 1]) }, { valueRank: 1 });
  variable("point", type("Point"), structure(make("Point", { x: 1, y: -2 })));
  variable("job", type("Job"), job(1));
  variable("jobs", type("Job"), { ...job(2), arrayType: VariantArrayType.Array, value: [job(2).value, job(3).value] }, { valueRank: 1 });
  variable("any", "Structure", structure(make("Point", { x: 3, y: 4 })));
  space.getOwnNamespace().addMultiStateDiscrete({ organizedBy: space.rootFolder.objects, nodeId: "s=light", browseName: "light", enumStrings: ["red", "amber", "green"], value: 2 });
  await server.start();
}

const orders = {
  job: ({ n }) => void space.findNode(`ns=${space.getOwnNamespace().index};s=job`).setValueFromSource(job(n)),
  any: ({ name, fields }) => void space.findNode(`ns=${space.getOwnNamespace().index};s=any`).setValueFromSource(structure(make(name, fields))),
  stop: async () => {
    await server.shutdown(0);
    setImmediate(() => process.exit(0));
  },
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const o = JSON.parse(line);
  try {
    if (!server) {
      await begin(o);
      return say({});
    }
    say((await orders[o.do](o)) || {});
  } catch (e) {
    say({ error: e.stack });
  }
}).on("close", () => process.exit(0));
