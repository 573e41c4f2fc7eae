package agent

import (
	"fmt"
	"net"
	"strings"
	"text/tabwriter"

	"plantmesh/edge/forward"
	"plantmesh/proto/strict"
)

// Passage is one line of what a firewall must let through.
type Passage struct {
	Direction string `json:"direction"` // outbound or inbound
	Proto     string `json:"proto"`
	Port      string `json:"port"`
	Peer      string `json:"peer"`
	Why       string `json:"why"`
	Needed    string `json:"needed"` // required, from your config, recommended
}

// Card is what a firewall must let through for this gateway, from its configuration alone.
type Card struct {
	Passages []Passage `json:"passages"`
	Writes   []string  `json:"writes"` // what the agent says to devices; empty: nothing
}

// Firewall reads the card out of the configuration at path.
func Firewall(path string) (Card, error) {
	c, err := OpenConfig(path)
	if err != nil {
		return Card{}, err
	}
	if err := c.Need(Sources); err != nil { // the card would lack a line
		return Card{}, err
	}
	if c.Hub.URL == "" {
		return Card{}, &strict.Fault{File: path, What: "hub.url is missing: enrol this gateway first (plantmesh-edge enroll), or write where the hub is"}
	}
	card := Card{Writes: append([]string{}, c.writes()...)}
	if host, port, err := forward.Address(c.Hub.URL); err == nil {
		why := "data, confirmations, new tokens; begun by this gateway"
		if strings.HasPrefix(c.Hub.URL, "wss:") {
			why = "data, confirmations, new tokens (WebSocket over TLS); begun by this gateway"
		}
		card.hub(c.road(), net.JoinHostPort(host, port), why)
	}
	if at := (Door{Hub: c.Hub.Enroll}).address(); at != "" {
		card.hub(c.road(), at, "being let in; another token once one has ended")
	}
	for i := range c.Sources {
		switch s := &c.Sources[i]; {
		case s.OPCUA != nil:
			card.to(s.OPCUA.Endpoint, "4840", "OPC UA read, source "+s.ID())
		case s.MQTT != nil:
			card.to(s.MQTT.URL, "", "MQTT subscribe, source "+s.ID())
		case s.Sparkplug != nil:
			card.to(s.Sparkplug.URL, "", "Sparkplug B subscribe, source "+s.ID())
		case s.Listener != nil:
			if host, port, err := net.SplitHostPort(s.Listener.Listen); err == nil && !loopback(host) {
				card.Passages = append(card.Passages, Passage{"inbound", "TCP", port, "your devices", "MQTT of devices, source " + s.ID(), "from your config"})
			}
		}
	}
	if card.named() {
		card.add("UDP", "53", "your name server", "the names above", "recommended")
	}
	card.add("UDP", "123", "your time server", "time", "recommended")
	return card, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *Card) add(proto, port, peer, why, needed string) {
	c.Passages = append(c.Passages, Passage{"outbound", proto, port, peer, why, needed})
}

// hub is a way to the hub: to the proxy, which must let it through, where there is one.
func (c *Card) hub(road forward.Road, to, why string) {
	host, port, _ := net.SplitHostPort(to) // it was joined
	if proxy, err := road.By(to); err == nil && proxy != nil {
		host, port = forward.ProxyAddress(proxy)
		why = "CONNECT " + to + " at this proxy: " + why
	}
	c.add("TCP", port, host, why, "required")
}

func (c *Card) to(device, port, why string) {
	if host, port, err := net.SplitHostPort(place(device, port)); err == nil {
		c.add("TCP", port, host, why, "from your config")
	}
}

// named: a peer stands there by its name.
func (c *Card) named() bool {
	for _, p := range c.Passages {
		if p.Direction == "outbound" && net.ParseIP(p.Peer) == nil && p.Peer != "localhost" {
			return true
		}
	}
	return false
}

// Text is the card for the IT department.
func (c *Card) Text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(p Passage) {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Direction, p.Proto, p.Port, p.Peer, p.Why, p.Needed) // a builder takes all
	}
	row(Passage{"Direction", "Proto", "Port", "Peer", "Why", ""})
	inbound := false
	for _, p := range c.Passages {
		inbound = inbound || p.Direction == "inbound"
		p.Needed = strings.Replace(p.Needed, "required", "REQUIRED", 1)
		row(p)
	}
	if !inbound {
		row(Passage{"inbound", "–", "–", "none", "the agent opens no network port", ""})
	}
	_ = w.Flush() // likewise
	said := "none"
	if len(c.Writes) > 0 {
		said = strings.Join(c.Writes, "; ")
	}
	b.WriteString("Never: writes to PLCs. What is said to devices beside questions: " + said + ".\n")
	var lines strings.Builder
	for line := range strings.Lines(b.String()) {
		lines.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return lines.String()
}
