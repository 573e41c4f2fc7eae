package cli

import (
	"path/filepath"
	"strings"
	"testing"
)

// good is a set of files that nothing is wrong with. The table's cases spoil
// one line each.
func good() map[string]string {
	return map[string]string{
		"edge.yaml": `agent: gw-1
site: graz
data: data
hub:
  url: nats://127.0.0.1:1
  key: agent.nk
  token: agent.jwt
buffer:
  max_bytes: 64MiB
window:
  latency: 1s
`,
		"agent.nk":  seed,
		"agent.jwt": token,
		"sources.d/a.yaml": `opcua:
  id: press
  endpoint: opc.tcp://127.0.0.1:4840
  security: {insecure: true}
  publishing_interval: 100ms
  signals:
    - {name: line1.press.state, type: int, node: "ns=2;s=state"}
    - name: line1.press.speed
      type: double
      node: ns=2;s=speed
  window:
    bytes: 512KiB
`,
		"sources.d/b.yaml": `mqtt:
  id: filler
  url: mqtt://127.0.0.1:1883
  topics:
    - {filter: plant/line3/+, signal: "line3.{2}.{key}", time: ts, time_unit: ms}
  heartbeat: {topic: plant/line3/heartbeat, every: 10s}
  max_packet: 1MiB
  signals:
    - {name: line3.filler.speed, type: double}
`,
		"sources.d/c.yaml": `sparkplug:
  id: capper
  url: mqtt://127.0.0.1:1884
  mode: active
  nodes: [plant/*]
  reorder_timeout: 5s
  name: "{node}.{metric}"
  max_packet: 1MiB
  signals:
    - {metric: plant/capper/Speed, type: double}
`,
		"sources.d/d.yaml": `mqtt_listener:
  id: labeller
  listen: 127.0.0.1:1885
  devices:
    - {user: labeller, password_file: labeller.pass, publish: [plant/labeller/#]}
  topics:
    - {filter: "plant/{machine}", signal: "line3.{machine}.{key}", time: ts}
  max_clients: 10
  signals:
    - {name: line3.labeller.speed, type: double, max_silence: 1m}
`,
		"sources.d/labeller.pass": "a secret of its own\n",
		"rules.d/r.yaml": `revision: 1
rules:
  - id: temperature-range
    kind: range
    signal: "*.*.temperature"
    max: 120
`,
		"hub.yaml": `data: hub
site_file: site.yaml
nats:
  listen: 127.0.0.1:0
  max_store: 1GiB
http:
  listen: 127.0.0.1:0
`,
		"site.yaml": `site: graz
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
min_coverage: 0.5
energy_unit: kWh
equipment:
  - {id: line1-press, line: line1, name: Press, kind: press, source: press, signals_prefix: line1.press.}
`,
		"sim.yaml": `seed: 1
start: 2026-03-01T04:00:00Z
until: 2026-03-01T05:00:00Z
clock: clock.json
ledger: ledger.csv
servers:
  - source: line1-opcua
    kind: opcua
    listen: 127.0.0.1:0
`,
		"clock.json": `{"plant_ns":1772341200000000000,"machine_ns":0,"speed":1,"stop_ns":0}` + "\n",
	}
}

// spoil replaces old by text in one of the good files; an old of "" removes
// the file.
func spoil(t *testing.T, files map[string]string, name, old, text string) {
	t.Helper()
	switch {
	case old == "":
		delete(files, name)
	case strings.Count(files[name], old) != 1:
		t.Fatalf("%q stands %d times in %s", old, strings.Count(files[name], old), name)
	default:
		files[name] = strings.Replace(files[name], old, text, 1)
	}
}

func edgeCommand(dir string) (program string, args []string) {
	return "plantmesh-edge", []string{"check", "--config", filepath.Join(dir, "edge.yaml"), "--section", "configuration,identity"}
}

func hubCommand(dir string) (program string, args []string) {
	return "plantmesh", []string{"serve", "--config", filepath.Join(dir, "hub.yaml")}
}

func simCommand(dir string) (program string, args []string) {
	return "firmware-sim", []string{"run", "--config", filepath.Join(dir, "sim.yaml")}
}

func TestConfig_BadInputIsOneLine(t *testing.T) {
	for name, c := range map[string]struct {
		command         func(dir string) (string, []string)
		file, old, text string
		want            string // behind the folder; DIR is the folder again
	}{
		"edge: unknown key":     {edgeCommand, "edge.yaml", "  max_bytes:", "  max_byte:", `edge.yaml:9: unknown key "max_byte"; did you mean "max_bytes"?`},
		"edge: wrong unit":      {edgeCommand, "edge.yaml", "64MiB", "64MB", `edge.yaml:9: "64MB" is no size: write a whole number with KiB, MiB or GiB, such as 64MiB`},
		"edge: no unit":         {edgeCommand, "edge.yaml", "latency: 1s", "latency: 1", `edge.yaml:11: "1" is no duration: write a number with ms, s, m or h, such as 10s`},
		"edge: out of range":    {edgeCommand, "edge.yaml", "latency: 1s", "latency: 2h", `edge.yaml:11: window.latency must be at most 1m`},
		"edge: too small":       {edgeCommand, "edge.yaml", "64MiB", "1MiB", `edge.yaml:9: buffer.max_bytes is too small: at least 8MiB`},
		"edge: wrong type":      {edgeCommand, "edge.yaml", "buffer:\n  max_bytes: 64MiB\n", "buffer: [1]\n", `edge.yaml:8: `},
		"edge: missing key":     {edgeCommand, "edge.yaml", "  key: agent.nk\n", "", `edge.yaml:4: hub.key is missing`},
		"edge: missing at top":  {edgeCommand, "edge.yaml", "site: graz\n", "", `edge.yaml:1: site is missing`},
		"edge: bad name":        {edgeCommand, "edge.yaml", "site: graz", "site: Graz!", `edge.yaml:2: "Graz!" is no name: use lower case letters, digits, '-' and '_', at most 63`},
		"edge: not YAML":        {edgeCommand, "edge.yaml", "site: graz", "site: [graz", `edge.yaml:3: not YAML: `},
		"edge: missing file":    {edgeCommand, "edge.yaml", "", "", `edge.yaml: no such file`},
		"edge: key not there":   {edgeCommand, "agent.nk", "", "", `edge.yaml:6: DIR/agent.nk: no such file`},
		"edge: token not there": {edgeCommand, "agent.jwt", "", "", `edge.yaml:7: DIR/agent.jwt: no such file`},
		"edge: token is junk":   {edgeCommand, "agent.jwt", token, "none", `agent.jwt: is no token of a hub; put there, whole, what plantmesh agents enroll printed`},
		"edge: key is junk":     {edgeCommand, "agent.nk", seed, "none", `agent.nk: holds no key of an agent; make one with plantmesh-edge keygen, and enrol again`},
		"edge: other site":      {edgeCommand, "edge.yaml", "site: graz", "site: linz", `edge.yaml:2: site is "linz", and the hub signed this agent for site "graz"; write that, or enrol again: plantmesh agents enroll --config hub.yaml --site linz gw-1 U`},
		"edge: other agent":     {edgeCommand, "edge.yaml", "gw-1", "gw-2", `edge.yaml:1: agent is "gw-2", and the hub signed it as "gw-1"; write that, or enrol again: `},
		"edge: other key":       {edgeCommand, "agent.nk", seed, "SUAPE7PMYUWGTTT3Z7RWTEFN24EN6SWL6VIDABW4P5C6ZFOHUSPTKNIMRA\n", `edge.yaml:7: DIR/agent.jwt was signed for the key U`},

		"edge: ping":        {edgeCommand, "edge.yaml", "  key: agent.nk", "  ping: 1ms\n  key: agent.nk", `edge.yaml:6: at least 100ms is needed`},
		"edge: hub timeout": {edgeCommand, "edge.yaml", "  key: agent.nk", "  timeout: 1ms\n  key: agent.nk", `edge.yaml:6: at least 100ms is needed`},
		"edge: resend":      {edgeCommand, "edge.yaml", "window:", "forward:\n  resend_after: 1ms\nwindow:", `edge.yaml:11: forward.resend_after must be at least 100ms`},
		"edge: message":     {edgeCommand, "edge.yaml", "window:", "forward:\n  max_message: 1KiB\nwindow:", `edge.yaml:11: forward.max_message must lie between 4KiB and 8MiB`},
		"edge: page":        {edgeCommand, "edge.yaml", "window:", "page:\n  listen: 0.0.0.0:8088\nwindow:", `edge.yaml:11: 0.0.0.0:8088 is not on this machine alone`},
		"edge: share":       {edgeCommand, "edge.yaml", "window:", "forward:\n  backlog_share: 101\nwindow:", `edge.yaml:11: forward.backlog_share is a percentage, 1 to 100`},

		"opcua: unknown key":        {edgeCommand, "sources.d/a.yaml", "publishing_interval", "publishing_intervall", `sources.d/a.yaml:5: unknown key "publishing_intervall"; did you mean "publishing_interval"?`},
		"opcua: wrong unit":         {edgeCommand, "sources.d/a.yaml", "100ms", "100 apples", `sources.d/a.yaml:5: "100 apples" is no duration: write a number with ms, s, m or h, such as 10s`},
		"opcua: out of range":       {edgeCommand, "sources.d/a.yaml", "100ms", "1ms", `sources.d/a.yaml:5: publishing_interval must lie between 10ms and 1m`},
		"opcua: bad type":           {edgeCommand, "sources.d/a.yaml", "type: double", "type: float", `sources.d/a.yaml:9: type "float" is none of bool, int, uint, double, string, bytes`},
		"opcua: bad node":           {edgeCommand, "sources.d/a.yaml", "ns=2;s=speed", "speed", `sources.d/a.yaml:10: node "speed" is not nsu=URI;s=ID or ns=2;s=ID`},
		"opcua: bad path":           {edgeCommand, "sources.d/a.yaml", "node: ns=2;s=speed", "path: Objects/speed", `sources.d/a.yaml:10: path "Objects/speed" does not begin at the root: write it as /Objects/Name`},
		"opcua: path and node":      {edgeCommand, "sources.d/a.yaml", "      node: ns=2;s=speed", "      node: ns=2;s=speed\n      path: /Objects/2:speed", `sources.d/a.yaml:11: node and path both say where the signal is: leave one out`},
		"opcua: nowhere":            {edgeCommand, "sources.d/a.yaml", "      node: ns=2;s=speed\n", "", `sources.d/a.yaml:8: node is missing: name the signal's node, or its path`},
		"opcua: unit unsaid":        {edgeCommand, "sources.d/a.yaml", "      node: ns=2;s=speed", "      node: ns=2;s=speed\n      trust_unit: true", `sources.d/a.yaml:11: trust_unit has no unit beside it`},
		"opcua: deadband":           {edgeCommand, "sources.d/a.yaml", "      node: ns=2;s=speed", "      node: ns=2;s=speed\n      deadband: 0", `sources.d/a.yaml:11: deadband "0" is neither a difference such as 0.5 nor a share of the range such as 2%`},
		"opcua: trigger":            {edgeCommand, "sources.d/a.yaml", "      node: ns=2;s=speed", "      node: ns=2;s=speed\n      trigger: change", `sources.d/a.yaml:11: trigger "change" is none of value, status, timestamp`},
		"opcua: queue":              {edgeCommand, "sources.d/a.yaml", "      node: ns=2;s=speed", "      node: ns=2;s=speed\n      queue_size: 2000000", `sources.d/a.yaml:11: queue_size must be at most 1000000`},
		"opcua: deadband of text":   {edgeCommand, "sources.d/a.yaml", "      type: double", "      type: string\n      deadband: 1", `sources.d/a.yaml:10: deadband is for numbers: type is string`},
		"opcua: profile":            {edgeCommand, "sources.d/a.yaml", "publishing_interval: 100ms", "profile: s7", `sources.d/a.yaml:5: profile "s7" is none of generic, ignition, kepware, prosys, s7-1200, s7-1500`},
		"opcua: limit":              {edgeCommand, "sources.d/a.yaml", "publishing_interval: 100ms", "limits: {read: -1}", `sources.d/a.yaml:5: limits.read must lie between 1 and 65472`},
		"opcua: more than it takes": {edgeCommand, "sources.d/a.yaml", "publishing_interval: 100ms", "limits: {signals: 1}", `sources.d/a.yaml:6: signals has 2 entries, one source takes at most 1`},
		"opcua: outage":             {edgeCommand, "sources.d/a.yaml", "publishing_interval: 100ms", "outage: 2h", `sources.d/a.yaml:5: outage must be at most lifetime: the server forgets the subscription then`},
		"opcua: poll":               {edgeCommand, "sources.d/a.yaml", "publishing_interval: 100ms", "poll: 10ms", `sources.d/a.yaml:5: poll must lie between 100ms and 1h`},
		"opcua: poll of events":     {edgeCommand, "sources.d/a.yaml", "publishing_interval: 100ms", "poll: 1s\n  events:\n    - {name: line1.press.alarms}", `sources.d/a.yaml:5: poll reads values only: events need a subscription`},
		"opcua: signal twice":       {edgeCommand, "sources.d/a.yaml", "press.speed", "press.state", `sources.d/a.yaml:8: signal "line1.press.state" stands twice`},
		"opcua: no endpoint":        {edgeCommand, "sources.d/a.yaml", "  endpoint: opc.tcp://127.0.0.1:4840\n", "", `sources.d/a.yaml:1: endpoint "" is not opc.tcp://host:port`},
		"opcua: port":               {edgeCommand, "sources.d/a.yaml", "127.0.0.1:4840", "press:99999", `sources.d/a.yaml:3: endpoint "opc.tcp://press:99999" is not opc.tcp://host:port: its port must be a number from 1 to 65535; write opc.tcp://press:4840`},
		"opcua: not secure":         {edgeCommand, "sources.d/a.yaml", "insecure: true", "mode: None", `sources.d/a.yaml:4: security.insecure: true must be said in place of None: `},
		"opcua: broken policy":      {edgeCommand, "sources.d/a.yaml", "insecure: true", "policy: Basic256", `sources.d/a.yaml:4: security.policy Basic256 is broken and no longer allowed: `},
		"opcua: no password":        {edgeCommand, "sources.d/a.yaml", "insecure: true", "user: anna", `sources.d/a.yaml:4: security.password_file and security.user go together: a password stands in a file of its own`},
		"opcua: login in the open":  {edgeCommand, "sources.d/a.yaml", "insecure: true", "insecure: true, user: anna, password_file: a.yaml", `sources.d/a.yaml:4: security.user and security.user_certificate are for protected connections, as everyone would read the login: take security.insecure: true out`},
		"opcua: two minds":          {edgeCommand, "sources.d/a.yaml", "insecure: true", "insecure: true, mode: Sign", `sources.d/a.yaml:4: security.insecure: true asks for no protection, and security.policy or security.mode for some: take one of them out`},
		"opcua: no such file":       {edgeCommand, "sources.d/a.yaml", "insecure: true", "user: anna, password_file: none", `sources.d/a.yaml:4: DIR/sources.d/none: `},
		"opcua: bad severity":       {edgeCommand, "sources.d/a.yaml", "  window:", "  events:\n    - {name: line1.press.alarms, min_severity: 1001}\n  window:", `sources.d/a.yaml:12: min_severity must lie between 1 and 1000`},
		"opcua: bad notifier":       {edgeCommand, "sources.d/a.yaml", "  window:", "  events:\n    - {name: line1.press.alarms, node: server}\n  window:", `sources.d/a.yaml:12: node "server" is not nsu=URI;s=ID or ns=2;s=ID`},
		"opcua: bad event type":     {edgeCommand, "sources.d/a.yaml", "  window:", "  events:\n    - {name: line1.press.alarms, types: [i=2915, alarms]}\n  window:", `sources.d/a.yaml:12: node "alarms" is not nsu=URI;s=ID or ns=2;s=ID`},
		"opcua: events twice":       {edgeCommand, "sources.d/a.yaml", "  window:", "  events:\n    - name: line1.press.speed\n  window:", `sources.d/a.yaml:12: signal "line1.press.speed" stands twice`},
		"opcua: history":            {edgeCommand, "sources.d/a.yaml", "  publishing_interval: 100ms", "  publishing_interval: 100ms\n  history: yes", `sources.d/a.yaml:6: history "yes" is neither auto nor off`},
		"opcua: nameless":           {edgeCommand, "sources.d/a.yaml", "  window:", "  events:\n    - min_severity: 5\n  window:", `sources.d/a.yaml:12: events have no name`},
		"opcua: window":             {edgeCommand, "sources.d/a.yaml", "512KiB", "512MiB", `sources.d/a.yaml:12: window.bytes must lie between 1KiB and 16MiB`},
		"mqtt: unknown key":         {edgeCommand, "sources.d/b.yaml", "heartbeat: {topic", "heartbeat: {topics", `sources.d/b.yaml:6: unknown key "topics"; did you mean "topic"?`},
		"mqtt: wrong unit":          {edgeCommand, "sources.d/b.yaml", "1MiB", "1", `sources.d/b.yaml:7: "1" is no size: write a whole number with KiB, MiB or GiB, such as 64MiB`},
		"mqtt: wrong time unit":     {edgeCommand, "sources.d/b.yaml", "time_unit: ms", "time_unit: days", `sources.d/b.yaml:5: time_unit "days" of topic "plant/line3/+" is none of s, ms, us, ns`},
		"mqtt: bad url":             {edgeCommand, "sources.d/b.yaml", "mqtt://127.0.0.1:1883", "127.0.0.1", `sources.d/b.yaml:3: url "127.0.0.1" is no mqtt://host:port or mqtts://host:port`},
		"mqtt: no brackets":         {edgeCommand, "sources.d/b.yaml", "127.0.0.1:1883", "::1", `sources.d/b.yaml:3: url "mqtt://::1" is no mqtt://host:port or mqtts://host:port: an IPv6 address stands in brackets; write mqtt://[::1]:1883`},
		"mqtt: wrong type":          {edgeCommand, "sources.d/b.yaml", "type: double", "type: bytes", `sources.d/b.yaml:9: type "bytes" of signal "line3.filler.speed" is none of bool, int, uint, double, string`},
		"mqtt: level unknown":       {edgeCommand, "sources.d/b.yaml", "line3.{2}.{key}", "line3.{machine}.{key}", `sources.d/b.yaml:5: signal "line3.{machine}.{key}": {machine} is neither a level of filter "plant/line3/+" nor one of {key}, {path}, {index}, {topic}, {rest}`},
		"mqtt: names collide":       {edgeCommand, "sources.d/b.yaml", "line3.{2}.{key}", "{1}-{2}.{key}", `sources.d/b.yaml:5: signal "{1}-{2}.{key}": a dot must stand between two {}: two topics could give the same name else`},
		"mqtt: bad path":            {edgeCommand, "sources.d/b.yaml", "time: ts", "time: meta..ts", `sources.d/b.yaml:5: path "meta..ts": a key is empty; write it like a.b[0].c, or ["a.b"] for a key with a dot`},
		"mqtt: unknown payload":     {edgeCommand, "sources.d/b.yaml", "time: ts", "payload: xml", `sources.d/b.yaml:5: payload "xml" of topic "plant/line3/+" is none of json, plain, kepware, neuron, neuron-tags, siemens, telegraf, thingsboard, umh`},
		"mqtt: unknown zone":        {edgeCommand, "sources.d/b.yaml", "time_unit: ms", "time_unit: text, time_zone: Graz", `sources.d/b.yaml:5: time_zone "Graz" of topic "plant/line3/+" is no zone such as Europe/Vienna`},
		"mqtt: unknown quality":     {edgeCommand, "sources.d/b.yaml", "time: ts", "time: ts, quality: {path: q, as: da}", `sources.d/b.yaml:5: quality.as "da" is neither opcua nor opcda; what else a device says stands in quality.values`},
		"mqtt: another element":     {edgeCommand, "sources.d/b.yaml", "time: ts", "time: \"t[*].ts\"", `sources.d/b.yaml:5: time "t[*].ts" has [*], so it must begin as value does up to its last [*]`},
		"mqtt: bad expression":      {edgeCommand, "sources.d/b.yaml", "type: double}", "type: double, expr: now()}", `sources.d/b.yaml:9: expr "now()": now is none of the functions it may use: `},
		"mqtt: levels of nothing":   {edgeCommand, "sources.d/b.yaml", "type: double}", "type: double, levels: {line: [a]}}", `sources.d/b.yaml:9: levels say what the {x} of a name may be, and signal "line3.filler.speed" has none`},
		"mqtt: too many signals":    {edgeCommand, "sources.d/b.yaml", "max_packet: 1MiB", "max_signals: 1000000", `sources.d/b.yaml:7: max_signals must lie between 1 and 100000`},
		"same server twice":         {edgeCommand, "sources.d/b.yaml", good()["sources.d/b.yaml"], "opcua:\n  id: filler\n  endpoint: opc.tcp://127.0.0.1/\n  security: {insecure: true}\n  signals:\n    - {name: line1.filler.state, type: int, node: i=2258}\n", `sources.d/b.yaml:3: endpoint opc.tcp://127.0.0.1/ is read by DIR/sources.d/a.yaml already: a server takes few sessions, put the signals into that file`},
		"same source twice":         {edgeCommand, "sources.d/b.yaml", "id: filler", "id: press", `sources.d/b.yaml:2: source "press" stands in DIR/sources.d/a.yaml already`},
		"no section":                {edgeCommand, "sources.d/b.yaml", good()["sources.d/b.yaml"], "# nothing\n", `sources.d/b.yaml:1: a source file has exactly one section: opcua, mqtt, sparkplug or mqtt_listener`},

		"sparkplug: two sections":  {edgeCommand, "sources.d/c.yaml", "sparkplug:", "mqtt: {id: x}\nsparkplug:", `sources.d/c.yaml:1: a source file has exactly one section: opcua, mqtt, sparkplug or mqtt_listener`},
		"sparkplug: unknown key":   {edgeCommand, "sources.d/c.yaml", "reorder_timeout", "reorder_time", `sources.d/c.yaml:6: unknown key "reorder_time"; did you mean "reorder_timeout"?`},
		"sparkplug: bad mode":      {edgeCommand, "sources.d/c.yaml", "mode: active", "mode: secondary", `sources.d/c.yaml:4: mode "secondary" is none of passive (only listens), active (may ask nodes for their births), primary (also tells them that it is there)`},
		"sparkplug: no host id":    {edgeCommand, "sources.d/c.yaml", "mode: active", "mode: primary", `sources.d/c.yaml:1: host_id "": a primary host needs the id that nodes wait for, without / + #`},
		"sparkplug: bad url":       {edgeCommand, "sources.d/c.yaml", "mqtt://127.0.0.1:1884", "127.0.0.1", `sources.d/c.yaml:3: url "127.0.0.1" is no mqtt://host:port or mqtts://host:port`},
		"sparkplug: nobody":        {edgeCommand, "sources.d/c.yaml", "  nodes: [plant/*]\n", "", `sources.d/c.yaml:1: nodes is empty: nobody may speak; write group/node of each, with * for any text`},
		"sparkplug: bad node":      {edgeCommand, "sources.d/c.yaml", "plant/*", "plant/+", `sources.d/c.yaml:5: "plant/+" is no group/node: write both, with * for any text`},
		"sparkplug: bad name":      {edgeCommand, "sources.d/c.yaml", "{node}.{metric}", "{node}", `sources.d/c.yaml:7: name "{node}" must hold {metric} once, between dots`},
		"sparkplug: wrong type":    {edgeCommand, "sources.d/c.yaml", "type: double", "type: float", `sources.d/c.yaml:10: type "float" of metric "plant/capper/Speed" is none of bool, int, uint, double, string, bytes, array`},
		"sparkplug: large packets": {edgeCommand, "sources.d/c.yaml", "max_packet: 1MiB", "max_packet: 2MiB", `sources.d/c.yaml:8: max_packet must lie between 1KiB and 1MiB`},
		"sparkplug: no time":       {edgeCommand, "sources.d/c.yaml", "reorder_timeout: 5s", "reorder_timeout: 1ms", `sources.d/c.yaml:6: reorder_timeout must lie between 10ms and 5m0s`},

		"listener: unknown key":   {edgeCommand, "sources.d/d.yaml", "max_clients", "max_client", `sources.d/d.yaml:8: unknown key "max_client"; did you mean "max_clients"?`},
		"listener: to the world":  {edgeCommand, "sources.d/d.yaml", "127.0.0.1:1885", "0.0.0.0:1885", `sources.d/d.yaml:3: 0.0.0.0:1885 can be reached from outside: give cert_file and key_file, or say insecure: true if everyone on that network may read passwords and values, and change them`},
		"listener: no password":   {edgeCommand, "sources.d/d.yaml", "password_file: labeller.pass, ", "", `sources.d/d.yaml:5: device "labeller" has neither a password_file nor, by ca_file, a certificate to show`},
		"listener: password file": {edgeCommand, "sources.d/d.yaml", "labeller.pass", "none.pass", `sources.d/d.yaml:5: DIR/sources.d/none.pass: `},
		"listener: no topics":     {edgeCommand, "sources.d/d.yaml", ", publish: [plant/labeller/#]", "", `sources.d/d.yaml:5: device "labeller" may publish nothing: give its topics, such as plant/labeller/#`},
		"listener: bad filter":    {edgeCommand, "sources.d/d.yaml", "plant/labeller/#]", "plant/#/x]", `sources.d/d.yaml:5: "plant/#/x" of device "labeller" is no topic filter: + and # stand alone between slashes, # only at the end`},
		"listener: certificate":   {edgeCommand, "sources.d/d.yaml", "max_clients: 10", "cert_file: labeller.pass", `sources.d/d.yaml:8: cert_file and key_file belong together: one of them is missing`},

		"rules: unknown key":  {edgeCommand, "rules.d/r.yaml", "    max:", "    maximum:", `rules.d/r.yaml:6: unknown key "maximum"`},
		"rules: wrong type":   {edgeCommand, "rules.d/r.yaml", "120", "hot", `rules.d/r.yaml:6: "hot" is no number`},
		"rules: unknown kind": {edgeCommand, "rules.d/r.yaml", "kind: range", "kind: rang", `rules.d/r.yaml:4: kind "rang" is none of range, enumeration, stale, backwards`},

		"hub: ping":             {hubCommand, "hub.yaml", "  max_store: 1GiB", "  max_store: 1GiB\n  ping: 1ms", `hub.yaml:6: at least 100ms is needed`},
		"hub: unknown socket":   {hubCommand, "hub.yaml", "  max_store: 1GiB", "  websocket: {listens: \"127.0.0.1:0\"}", `hub.yaml:5: unknown key "listens"; did you mean "listen"?`},
		"hub: socket by name":   {hubCommand, "hub.yaml", "  max_store: 1GiB", "  websocket: {listen: \"hub.example:443\"}", `hub.yaml:5: "hub.example" is no address of this machine`},
		"hub: socket's pair":    {hubCommand, "hub.yaml", "  max_store: 1GiB", "  websocket: {listen: \"127.0.0.1:0\", cert_file: a.pem}", `hub.yaml:5: cert_file and key_file go together`},
		"hub: socket's file":    {hubCommand, "hub.yaml", "  max_store: 1GiB", "  websocket: {listen: \"127.0.0.1:0\", cert_file: a.pem, key_file: b.pem}", `hub.yaml:5: DIR/a.pem with DIR/b.pem: no such file`},
		"hub: pair of nothing":  {hubCommand, "hub.yaml", "  max_store: 1GiB", "  websocket: {cert_file: a.pem, key_file: b.pem}", `hub.yaml:5: listen is missing`},
		"hub: socket on page":   {hubCommand, "hub.yaml", "  max_store: 1GiB", "  websocket: {on_page: true}", `hub.yaml:5: the page is no HTTPS: say http.tls, or have it listen beyond loopback`},
		"hub: announced":        {hubCommand, "hub.yaml", "  max_store: 1GiB", "  announce: https://hub.example.com", `hub.yaml:5: "https://hub.example.com": agents call a hub by nats://, tls:// or wss://`},
		"hub: receipts":         {hubCommand, "hub.yaml", "http:", "ingest:\n  receipt_every: 1ms\nhttp:", `hub.yaml:7: at least 100ms is needed`},
		"hub: sync":             {hubCommand, "hub.yaml", "  max_store: 1GiB", "  max_store: 1GiB\n  sync_interval: never", `hub.yaml:6: "never" is neither always nor a time such as 2m`},
		"hub: canary too often": {hubCommand, "hub.yaml", "http:\n", "watch: {canary: 10ms}\nhttp:\n", `hub.yaml:6: at least 1s is needed`},
		"hub: watch unknown":    {hubCommand, "hub.yaml", "http:\n", "watch: {canaries: 10s}\nhttp:\n", `hub.yaml:6: unknown key "canaries"; did you mean "canary"?`},
		"hub: unknown key":      {hubCommand, "hub.yaml", "site_file", "sitefile", `hub.yaml:2: unknown key "sitefile"; did you mean "site_file"?`},
		"hub: key of nobody":    {hubCommand, "hub.yaml", "data: hub\n", "data: hub\nsite: graz\n", `hub.yaml:2: unknown key "site"; allowed here: data, history, http, identity, ingest, nats, plant_clock, site_file, watch [config.unknown_key]`},
		"hub: wrong unit":       {hubCommand, "hub.yaml", "1GiB", "1G", `hub.yaml:5: "1G" is no size: write a whole number with KiB, MiB or GiB, such as 64MiB`},
		"hub: too small":        {hubCommand, "hub.yaml", "1GiB", "1MiB", `hub.yaml:5: at least 64MiB are needed`},
		"hub: wrong type":       {hubCommand, "hub.yaml", "nats:\n  listen: 127.0.0.1:0\n  max_store: 1GiB\n", "nats: yes\n", `hub.yaml:3: `},
		"hub: missing key":      {hubCommand, "hub.yaml", "data: hub\n", "", `hub.yaml:1: data is missing`},
		"hub: missing file":     {hubCommand, "hub.yaml", "", "", `hub.yaml: no such file`},
		"hub: no site file":     {hubCommand, "site.yaml", "", "", `hub.yaml:2: DIR/site.yaml: no such file`},
		"hub: http by name":     {hubCommand, "hub.yaml", "http:\n  listen: 127.0.0.1:0", "http:\n  listen: hub.example:8443", `hub.yaml:7: "hub.example" is no address of this machine: write one such as 127.0.0.1, or 0.0.0.0 for all of them`},
		"hub: half a pair":      {hubCommand, "hub.yaml", "http:\n", "http:\n  cert_file: a.pem\n", `hub.yaml:6: cert_file and key_file go together`},
		"hub: no certificate":   {hubCommand, "hub.yaml", "http:\n", "http:\n  tls: true\n  cert_file: a.pem\n  key_file: b.pem\n", `hub.yaml:8: DIR/a.pem with DIR/b.pem: no such file`},
		"hub: no name":          {hubCommand, "hub.yaml", "http:\n", "http:\n  names: [hub, \"https://hub\"]\n", `hub.yaml:7: "https://hub" is no host name such as hub.example.com`},
		"hub: few connections":  {hubCommand, "hub.yaml", "http:\n", "http:\n  max_connections: 1\n", `hub.yaml:7: between 10 and 100000 is allowed`},
		"hub: no port":          {hubCommand, "hub.yaml", "http:\n  listen: 127.0.0.1:0", "http:\n  listen: 127.0.0.1", `hub.yaml:7: "127.0.0.1" is no host:port such as 127.0.0.1:8080`},
		"site: unknown key":     {hubCommand, "site.yaml", "energy_unit", "energie_unit", `site.yaml:7: unknown key "energie_unit"; did you mean "energy_unit"?`},
		"site: wrong unit":      {hubCommand, "site.yaml", "kWh", "MWh", `site.yaml:7: "MWh" is no unit of energy here: write kWh or kJ`},
		"site: wrong zone":      {hubCommand, "site.yaml", "Europe/Vienna", "Europe/Graz", `site.yaml:2: "Europe/Graz" is no IANA time zone such as Europe/Vienna`},
		"site: wrong type":      {hubCommand, "site.yaml", "0.5", "half", `site.yaml:6: "half" is no number`},
		"site: wrong shift":     {hubCommand, "site.yaml", `"14:00"`, `"25:00"`, `site.yaml:5: a shift needs an id, a start and an end such as 06:00`},
		"sim: unknown key":      {simCommand, "sim.yaml", "    listen:", "    lisen:", `sim.yaml:9: unknown key "lisen"; did you mean "listen"?`},
		"sim: wrong kind":       {simCommand, "sim.yaml", "kind: opcua", "kind: opc", `sim.yaml:8: kind is "opc": write opcua, mqtt or sparkplug`},
		"sim: unknown source":   {simCommand, "sim.yaml", "line1-opcua", "line1-opcu", `sim.yaml:7: there is no source "line1-opcu" to serve; did you mean "line1-opcua"?`},
		"sim: wrong type":       {simCommand, "sim.yaml", "seed: 1", "seed: one", `sim.yaml:1: "one" is no whole number`},
		"sim: missing file":     {simCommand, "sim.yaml", "", "", `sim.yaml: no such file`},
		"sim: clock not there":  {simCommand, "clock.json", "", "", `sim.yaml:4: read the plant clock: `},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, files := folder(t), good()
			spoil(t, files, c.file, c.old, c.text)
			write(t, dir, files)
			program, args := c.command(dir)
			r := run(t, nil, program, args...)
			want := program + ": " + dir + "/" + strings.ReplaceAll(c.want, "DIR", dir)
			got := strings.TrimSuffix(r.err, "\n")
			slug := " [config.invalid]"
			if strings.Contains(c.want, "unknown key") {
				slug = " [config.unknown_key]"
			}
			if r.code != exitConfig || !strings.HasPrefix(got, want) || !strings.HasSuffix(got, slug) || strings.Contains(got, "\n") {
				t.Errorf("exit code %d, stderr\n%s\nwant exit code %d and the line\n%s", r.code, r.err, exitConfig, want)
			}
		})
	}
}

func TestConfig_GoodFilesPass(t *testing.T) {
	dir := folder(t)
	write(t, dir, good())
	program, args := edgeCommand(dir)
	got := must(t, program, args...)
	for _, want := range []string{"✓ cfg-parse          " + filepath.Join(dir, "edge.yaml") + ": agent gw-1 at graz\n", "✓ cfg-sources        4 sources\n", "✓ id-cert-expiry     the hub's token is valid for 90 days\n", "12 ok · 0 warnings · 0 errors · 0 skipped"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s, want %q", got, want)
		}
	}
}

func TestConfig_EnvironmentGoesFirst(t *testing.T) {
	dir := folder(t)
	files := good()
	files["edge.yaml"] = strings.Replace(files["edge.yaml"], "site: graz\n", "", 1)
	write(t, dir, files)
	for name, c := range map[string]struct {
		command func(dir string) (string, []string)
		env     string
		code    int
		want    string // of stderr
	}{
		"edge: sets":       {edgeCommand, "PLANTMESH_EDGE_SITE=graz", 0, "Next:  plantmesh-edge run --config '" + dir + "/edge.yaml'\n"},
		"edge: not at all": {edgeCommand, "PLANTMESH_OTHER=graz", exitConfig, "plantmesh-edge: " + dir + "/edge.yaml:1: site is missing (plantmesh-edge enroll writes it) [config.invalid]\n"},
		"edge: unknown":    {edgeCommand, "PLANTMESH_EDGE_SITTE=graz", exitConfig, `plantmesh-edge: environment: unknown variable PLANTMESH_EDGE_SITTE; did you mean "PLANTMESH_EDGE_SITE"? [config.unknown_key]` + "\n"},
		"edge: wrong unit": {edgeCommand, "PLANTMESH_EDGE_BUFFER__MAX_BYTES=64", exitConfig, `plantmesh-edge: PLANTMESH_EDGE_BUFFER__MAX_BYTES: "64" is no size: write a whole number with KiB, MiB or GiB, such as 64MiB [config.invalid]` + "\n"},
		"hub: not allowed": {hubCommand, "PLANTMESH_HUB_HTTP__LISTEN=hub:80", exitConfig, `plantmesh: PLANTMESH_HUB_HTTP__LISTEN: "hub" is no address of this machine: write one such as 127.0.0.1, or 0.0.0.0 for all of them [config.invalid]` + "\n"},
		"hub: unknown":     {hubCommand, "PLANTMESH_HUB_NATS__LISTENS=127.0.0.1:1", exitConfig, `plantmesh: environment: unknown variable PLANTMESH_HUB_NATS__LISTENS; did you mean "PLANTMESH_HUB_NATS__LISTEN"? [config.unknown_key]` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program, args := c.command(dir)
			if r := run(t, []string{c.env}, program, args...); r.code != c.code || r.err != c.want {
				t.Errorf("exit code %d, stderr\n%s\nwant %d\n%s", r.code, r.err, c.code, c.want)
			}
		})
	}
}

// Allowed, and hardly meant: the check passes with a warning.
func TestCheck_WarnsOfASourceThatNothingProves(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ old, text, want string }{
		"nothing":     {"  heartbeat: {topic: plant/line3/heartbeat, every: 10s}\n", "", "nothing counts as known"},
		"max_silence": {"  heartbeat: {topic: plant/line3/heartbeat, every: 10s}\n  max_packet: 1MiB\n  signals:\n    - {name: line3.filler.speed, type: double}\n", "  signals:\n    - {name: line3.filler.speed, type: double, max_silence: 1m}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, files := folder(t), good()
			spoil(t, files, "sources.d/b.yaml", c.old, c.text)
			write(t, dir, files)
			program, args := edgeCommand(dir)
			r := run(t, nil, program, args...)
			if r.code != 0 || strings.Contains(r.out, "! cfg-proof") != (c.want != "") || !strings.Contains(r.out, c.want) || !strings.HasPrefix(r.err, "Next:") {
				t.Errorf("exit code %d, stderr\n%s%s\nwant %q", r.code, r.out, r.err, c.want)
			}
			if strict := run(t, nil, program, append(args, "--strict")...); (strict.code == exitFindings) != (c.want != "") {
				t.Errorf("--strict: exit code %d, stderr\n%s", strict.code, strict.err)
			}
		})
	}
}
