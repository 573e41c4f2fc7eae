package sparkplug

import "encoding/json"

// host is what a node knows of its primary host.
type host struct {
	heard  bool
	online bool
	stamp  int64 // of the newest message, ms in the host's clock
}

func stateTopic(id string) string { return "spBv1.0/STATE/" + id }

// hear takes a STATE message and reports whether it counts: one that is older
// than another says nothing (Sparkplug 3.0,
// message-flow-edge-node-birth-publish-phid-wait-timestamp and -phid-offline).
func (h *host) hear(text []byte) bool {
	var said struct {
		Online    *bool  `json:"online"`
		Timestamp *int64 `json:"timestamp"`
	}
	if json.Unmarshal(text, &said) != nil || said.Online == nil || said.Timestamp == nil || h.heard && *said.Timestamp < h.stamp {
		return false
	}
	*h = host{heard: true, online: *said.Online, stamp: *said.Timestamp}
	return true
}
