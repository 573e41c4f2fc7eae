package mapping

import (
	"maps"
	"slices"
	"strings"
)

// What a payload may be besides the presets.
const (
	jsonPayload  = "json"
	plainPayload = "plain" // the whole payload is the value
)

// presets are forms of payload that products send. What a topic says itself goes first.
func presets() map[string]Topic {
	return map[string]Topic{
		// United Manufacturing Hub: {"timestamp_ms": ..., "value": ...}, and with {key} or
		// {path} in signal its older form of several values in groups.
		"umh": {Time: "timestamp_ms", TimeUnit: "ms", Value: "value"},
		// Kepware IoT Gateway, standard template: {"timestamp": ..., "values": [{"id", "v", "q", "t"}]}.
		// An id is Channel.Device.Tag.
		"kepware": {Value: "values[*].v", Key: "values[*].id", Split: ".", Time: "values[*].t", TimeUnit: "ms", Quality: Quality{Path: "values[*].q"}},
		// Siemens Industrial Edge, Common Databus Payload, publish type bulk: {"seq", "vals": [{"id",
		// "qc", "ts", "val"}]}; qc is 0 bad, 1 uncertain, 2 and 3 good; whole numbers of 64 bits stand in quotes.
		"siemens": {
			Value: "vals[*].val", Key: "vals[*].id", Time: "vals[*].ts", TimeUnit: "text", Sequence: "seq", Quoted: true,
			Quality: Quality{Path: "vals[*].qc", Values: map[string]string{"0": "bad", "1": "uncertain", "2": "good", "3": "good"}},
		},
		// EMQX Neuron, Values format: {"timestamp", "node", "group", "values": {tag: value}, "errors"}.
		"neuron": {Value: "values", Time: "timestamp", TimeUnit: "ms"},
		// Likewise, Tags format: {"timestamp", "node", "group", "tags": [{"name", "value"}]}.
		"neuron-tags": {Value: "tags[*].value", Key: "tags[*].name", Time: "timestamp", TimeUnit: "ms"},
		// Telegraf, data format json: {"fields": {...}, "name", "tags", "timestamp"}, in seconds.
		"telegraf": {Value: "fields", Time: "timestamp", TimeUnit: "s"},
		// ThingsBoard's telemetry: {"ts": ..., "values": {...}}.
		"thingsboard": {Value: "values", Time: "ts", TimeUnit: "ms"},
	}
}

// Presets are the names of the forms of payload that need no paths.
func Presets() []string { return slices.Sorted(maps.Keys(presets())) }

// defaults fills in what a topic leaves out.
func (t *Topic) defaults() {
	setIfZero(&t.Payload, jsonPayload)
	if p, ok := presets()[t.Payload]; ok {
		if t.Payload == "umh" && (strings.Contains(t.Signal, "{key}") || strings.Contains(t.Signal, "{path}")) {
			p.Value = ""
		}
		t.Payload = jsonPayload
		setIfZero(&t.Value, p.Value)
		setIfZero(&t.Key, p.Key)
		setIfZero(&t.Split, p.Split)
		setIfZero(&t.Time, p.Time)
		setIfZero(&t.TimeUnit, p.TimeUnit)
		setIfZero(&t.Sequence, p.Sequence)
		if t.Quality.Path == "" {
			t.Quality = p.Quality
		}
		t.Quoted = t.Quoted || p.Quoted
	}
	setIfZero(&t.TimeUnit, "ms")
}
