// Devices of MQTT.js: each publishes numbered messages with QoS 1 through a session that
// the listener keeps, and says "done" when all are acknowledged.
//
//   node devices.js URL VERSION USER PASSWORD FROM COUNT
'use strict'
const mqtt = require('mqtt')
const [url, version, username, password, from, count] = process.argv.slice(2)
const start = 1767268800000
const client = mqtt.connect(url, {
  protocolVersion: Number(version),
  clientId: 'device-' + version,
  username,
  password,
  clean: false,
  reconnectPeriod: 50,
  properties: version === '5' ? { sessionExpiryInterval: 3600 } : undefined,
})
let left = Number(count)
let next = Number(from)
const end = next + left
const topic = 'plant/line' + version + '/filler'
function say (n) {
  client.publish(topic, JSON.stringify({ ts: start + n, produced: n }), { qos: 1 }, err => {
    if (err && err.message === 'Connection closed') { // it was still in line, never sent
      setTimeout(say, 20, n)
      return
    }
    if (err) {
      console.error(String(err))
      process.exit(1)
    }
    client.inflight--
    if (--left === 0) {
      console.log('done')
      client.end(false, () => process.exit(0))
    }
    some()
  })
}
function some () {
  while (next < end && client.inflight < 200) {
    client.inflight++
    say(next++)
  }
}
client.inflight = 0
client.once('connect', some)
client.on('error', err => { // the listener is away for a moment: it is called again
  console.error(String(err))
  if (err.code !== 'ECONNREFUSED' && !['ECONNRESET', 'EPIPE'].includes(err.code)) process.exit(2)
})
