package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/proto/answer"
)

// Bounds of a visit to a broker.
const (
	mostMessages = 1000
	longestWait  = time.Hour
)

// brokerFlags say how a broker is heard that need not be a source yet.
type brokerFlags struct {
	Topic    []string      `sep:"none" help:"Of a broker: what to subscribe to, such as 'plant/#', or 'spBv1.0/#' for Sparkplug B."`
	Messages int           `default:"20" help:"Of MQTT and Sparkplug B: messages to look at, at most."`
	Wait     time.Duration `default:"10s" help:"Of MQTT and Sparkplug B: how long to wait for them."`

	User         string `help:"Of a broker: log in by name."`
	PasswordFile string `type:"path" help:"Of a broker: the file with that user's password."`
	CAFile       string `name:"ca-file" type:"path" help:"Of a broker: certificates (PEM) that mqtts trusts; default: those of the system."`
	CertFile     string `type:"path" help:"Of a broker: the certificate (PEM) that it is shown."`
	KeyFile      string `type:"path" help:"Of a broker: the key (PEM) of that certificate."`

	ID  string `help:"Of a broker: the proposed source's name; default: made of its address."`
	Out string `type:"path" help:"Of a broker: write the proposed file there, where no file is yet."`
}

// named: a broker is described.
func (f *brokerFlags) named() bool {
	return f.User+f.PasswordFile+f.CAFile+f.CertFile+f.KeyFile+f.ID+f.Out != ""
}

func (f *brokerFlags) stay() (s agent.Stay, err error) {
	switch {
	case f.Messages < 1 || f.Messages > mostMessages:
		return s, &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--messages must lie between 1 and %d", mostMessages)}
	case f.Wait < 100*time.Millisecond || f.Wait > longestWait:
		return s, &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--wait must lie between 100ms and %s", longestWait)}
	}
	return agent.Stay{Messages: f.Messages, Within: f.Wait, Bytes: 64 << 20}, nil
}

// proposed is the answer of --json for a broker.
type proposed struct {
	Broker   string   `json:"broker"`
	Messages int      `json:"messages"`
	Topics   int      `json:"topics"`
	Nodes    int      `json:"nodes,omitempty"` // of Sparkplug B
	Signals  int      `json:"signals"`         // of Sparkplug B those that the births name which were heard
	Source   string   `json:"source"`          // the file
	Notes    []string `json:"notes,omitempty"`
}

// hear hears a broker, and makes a source file for what it says.
func (f *brokerFlags) hear(ctx context.Context, p *answer.Printer, broker string) (out proposed, err error) {
	stay, err := f.stay()
	if err != nil {
		return out, err
	}
	if wrong := link.Misaddressed(broker); wrong != nil {
		return out, misaddressed(broker, "mqtt://host:port or mqtts://host:port", wrong)
	}
	if len(f.Topic) == 0 {
		return out, &answer.Error{Code: answer.Usage, Message: "what is to be heard there? Say --topic 'plant/#', or --topic '#' for all that this login may hear"}
	}
	cfg := link.Config{URL: broker, Username: f.User, PasswordFile: f.PasswordFile, CAFile: f.CAFile, CertFile: f.CertFile, KeyFile: f.KeyFile}
	if err := cfg.Validate(); err != nil {
		return out, &answer.Error{Code: answer.Usage, Message: err.Error()}
	}
	stay.Retained = true
	got, err := agent.Overhear(ctx, &cfg, f.Topic, stay)
	if err != nil {
		return out, visited(broker, err)
	}
	if got.Messages == 0 {
		return out, &answer.Error{
			Code: answer.SourceFindings, Message: fmt.Sprintf("%s said nothing on %s in %s", broker, strings.Join(f.Topic, ", "), f.Wait),
			Hint: "publish something meanwhile, say --wait, or ask the broker's owner whether this login may read there",
		}
	}
	out = f.proposal(broker, &got)
	for _, n := range out.Notes {
		notes(p.Narration(), []string{browse.Printable(n)})
	}
	if out.Nodes+len(got.Config.Signals) == 0 {
		return out, &answer.Error{Code: answer.SourceFindings, Message: "none of the messages has a value that could be kept", Hint: strings.Join(out.Notes, "; ")}
	}
	if _, err := agent.ParseProposed([]byte(out.Source)); err != nil {
		return out, fmt.Errorf("this agent would not take it: %w", err)
	}
	return out, nil
}

// propose hears a broker and prints a source file for what it says.
func (f *brokerFlags) propose(ctx context.Context, p *answer.Printer, broker string) error {
	out, err := f.hear(ctx, p, broker)
	if err != nil {
		return err
	}
	r := answer.Result{Data: out, Text: out.Source, Next: "write it to a file of sources.d by --out, then: plantmesh-edge source test FILE --config edge.yaml"}
	if f.Out != "" {
		if err := writeSource(f.Out, out.Source); err != nil {
			return err
		}
		r.Text, r.Next = fmt.Sprintf("%s: a source with %s\n", f.Out, out.what()), answer.Command("plantmesh-edge", "source", "test", f.Out, "--config", "edge.yaml")
	}
	return p.Print(r)
}

// what is in the proposed file.
func (o *proposed) what() string {
	if o.Nodes > 0 {
		return fmt.Sprintf("%d nodes, whose births name %d signals so far", o.Nodes, o.Signals)
	}
	return fmt.Sprintf("%d signals", o.Signals)
}

// proposal is a source file for what was heard: of Sparkplug B, where all of it is that.
func (f *brokerFlags) proposal(broker string, got *agent.Overheard) proposed {
	out := proposed{Broker: broker, Messages: got.Messages, Topics: got.Topics, Signals: len(got.Config.Signals), Notes: got.Notes}
	section, on, body := "mqtt", fmt.Sprintf("on %d topics", got.Topics), got.YAML("  ")
	if n := got.Nodes; n != nil {
		out.Nodes, out.Signals, out.Notes = len(n.Nodes), n.Signals, n.Notes
		section, on, body = "sparkplug", fmt.Sprintf("of %d Sparkplug B nodes", len(n.Nodes)), n.YAML("  ")
	}
	out.Source = fmt.Sprintf("# Proposed from %d messages %s. Look at it, and at what is said of each value\n# by: plantmesh-edge source test FILE --config edge.yaml\n%s:\n  id: %s\n%s%s",
		got.Messages, on, section, f.sourceID(section, broker), f.lines(broker), body)
	return out
}

func (f *brokerFlags) sourceID(section, broker string) string {
	host := "broker"
	if u, err := url.Parse(broker); err == nil {
		host = u.Host
	}
	return cmp.Or(f.ID, section+"-"+strings.Trim(regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(host, "-"), "-"))
}

// lines are the broker in a file.
func (f *brokerFlags) lines(broker string) string {
	var b strings.Builder
	for _, x := range [][2]string{{"url", broker}, {"username", f.User}, {"password_file", f.PasswordFile}, {"ca_file", f.CAFile}, {"cert_file", f.CertFile}, {"key_file", f.KeyFile}} {
		if x[1] != "" {
			fmt.Fprintf(&b, "  %s: %q\n", x[0], x[1])
		}
	}
	return b.String()
}
