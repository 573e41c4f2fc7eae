package main

import (
	"cmp"
	"fmt"

	"plantmesh/edge/agent"
	"plantmesh/proto/answer"
	"plantmesh/proto/enroll"
	"plantmesh/proto/strict"
)

// initCmd writes an edge.yaml.
type initCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml, which is written."`
	Agent  string `help:"This gateway's name at the hub; default: this machine's."`
	Site   string `help:"The site of the hub; default: empty, and enroll fills it in."`
	Hub    string `help:"The hub's address for data, nats://host:port; default: empty, and enroll fills it in."`
	Data   string `help:"The folder of the buffer; default: data beside the file."`
	From   string `type:"path" help:"Another edge.yaml to begin with: what it says holds, what stands there without a value is filled in."`
	Print  bool   `help:"Print it, and write nothing."`
	Force  bool   `help:"Write over one that is there, which is kept as edge.yaml.old. Keys and tokens are never touched."`
}

func (c *initCmd) Run(p *answer.Printer) error {
	for flag, name := range map[string]string{"agent": c.Agent, "site": c.Site} {
		if name != "" && !enroll.Name(name) {
			return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--%s %q is no name: lower case letters, digits, '-' and '_', at most 63", flag, name)}
		}
	}
	i := agent.Initial{Agent: c.Agent, Site: c.Site, Hub: c.Hub, Data: c.Data}
	if c.From != "" {
		template, err := strict.Read(c.From)
		if err != nil {
			return &strict.Fault{File: c.From, What: strict.Unreadable(err)}
		}
		if i, err = i.Like(c.From, template); err != nil {
			return err
		}
	}
	if i.Template == "" && i.Agent == "" {
		i.Agent = agent.HostAgent()
	}
	if c.Print {
		return p.Print(answer.Result{Data: map[string]string{"text": i.YAML()}, Text: i.YAML()})
	}
	if err := i.Write(c.Config, c.Force); err != nil {
		return err
	}
	return p.Print(answer.Result{
		Data: map[string]string{"config": c.Config, "agent": i.Agent, "text": i.YAML()},
		Text: fmt.Sprintf("%s: agent %s; sources.d and rules.d beside it\n", c.Config, cmp.Or(i.Agent, "has no name yet")),
		Next: answer.Command("plantmesh-edge", "enroll", "--config", c.Config, "https://hub.example.com"),
	})
}

type cheatCmd struct{}

// Run prints one page.
func (cheatCmd) Run(p *answer.Printer) error {
	const text = `A new gateway
  plantmesh-edge init --config edge.yaml
  plantmesh-edge enroll --config edge.yaml https://hub.example.com
  plantmesh-edge source add --config edge.yaml opc.tcp://machine:4840
  sudo systemctl enable --now plantmesh-edge
Is it well?
  plantmesh-edge check --config edge.yaml              what is wrong, and what helps
  plantmesh-edge status --config edge.yaml             link, buffer, sources
  plantmesh-edge tap --config edge.yaml '*.press.*'    values as they come
  plantmesh-edge ui --config edge.yaml                 the same in a browser
A source does not work
  plantmesh-edge tap --raw --config edge.yaml press    what its machine says, before mapping and rules
  plantmesh-edge browse machine                        what its server offers
  plantmesh-edge source test --config edge.yaml sources.d/machine.yaml
  plantmesh-edge cert list --config edge.yaml          who trusts whom
  plantmesh-edge source disable --config edge.yaml machine
The hub is away
  plantmesh-edge buffer status --config edge.yaml      for how long everything is kept
  plantmesh-edge buffer export --config edge.yaml --last 24h --format csv usb.csv
  plantmesh-edge check --config edge.yaml --section cloud
Values look wrong
  plantmesh-edge rules explain --config edge.yaml line1.press.temperature
  plantmesh-edge rules show --config edge.yaml NAME    one rule, and how its tests go
  plantmesh-edge quarantine list --config edge.yaml    what was set aside, what rules found
The configuration
  plantmesh-edge config validate --config edge.yaml    all that is wrong with the files
  plantmesh-edge config show --values --config edge.yaml   what holds, and where it comes from
  plantmesh-edge config schema source > source.json    an editor explains the keys by it
Somebody helps
  plantmesh-edge log debug --config edge.yaml --for 10m
  plantmesh-edge support-bundle --config edge.yaml     no values, no keys, no passwords
`
	return p.Print(answer.Result{Data: map[string]string{"text": text}, Text: text})
}
