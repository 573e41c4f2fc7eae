package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"plantmesh/cloud/hub"
	"plantmesh/cloud/registry"
	"plantmesh/proto/answer"
	"plantmesh/proto/enroll"
	"plantmesh/proto/strict"
)

type inboxCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
}

func (c *inboxCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	all, err := hub.Inbox(cfg)
	if err != nil {
		return err
	}
	var text strings.Builder
	r := answer.Result{Data: map[string]any{"gateways": all}}
	for _, a := range all {
		said := "waits"
		if a.Decision != nil {
			said = string(a.Decision.State) + " by " + a.Decision.By
		}
		fmt.Fprintf(&text, "%s\t%s\t%s\n\t%s, %s, asks since %s, last from %s\n\t%s\n", a.Code, a.Request.Agent, said,
			cmp.Or(a.Request.Host.Name, "no host name"), cmp.Or(a.Request.Host.System, "no system"), a.First.Format(time.RFC3339), cmp.Or(a.From, "a file"), a.Fingerprint)
		if a.Decision == nil && r.Next == "" {
			r.Next = answer.Command("plantmesh", "agents", "approve", "--config", c.Config, a.Code) + "   (once its fingerprint is the one that the gateway shows)"
		}
	}
	if r.Text = text.String(); len(all) == 0 {
		r.Text = "no gateway asks to be let in\n"
		r.Next = answer.Command("plantmesh-edge", "enroll", "--config", "edge.yaml", cfg.HTTP.Address()) + "   (on the gateway)"
	}
	return p.Print(r)
}

type approveCmd struct {
	Config  string `required:"" type:"path" help:"hub.yaml"`
	As      string `help:"The name it gets; default: the one it asks for."`
	Request string `type:"path" help:"Instead of a code: the file that plantmesh-edge enroll request wrote; the answer goes to stdout."`
	NATS    string `name:"nats" placeholder:"URL" help:"Of a request in a file: where the gateway is to send, as nats://hub:4222 or wss://hub; default: nats.announce of hub.yaml, else where this hub listens."`
	Code    string `arg:"" optional:"" help:"The code, or the fingerprint, that the gateway shows."`
}

func (c *approveCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	if (c.Code == "") == (c.Request == "") {
		return &answer.Error{Code: answer.Usage, Message: "say either the code that the gateway shows, or --request with the file it wrote"}
	}
	if c.Request != "" {
		return c.carry(p, cfg)
	}
	a, err := hub.Approve(cfg, c.Code, c.As, time.Now())
	if err != nil {
		return err
	}
	return p.Print(answer.Result{
		Data: a, Text: fmt.Sprintf("%s\t%s\tapproved as %s at %s; it fetches its token within seconds\n", a.Code, a.Fingerprint, a.Decision.Name, a.Decision.Site),
		Next: answer.Command("plantmesh", "agents", "list", "--config", c.Config),
	})
}

// carry answers a request that came in a file.
func (c *approveCmd) carry(p *answer.Printer, cfg hub.Config) error {
	b, err := os.ReadFile(c.Request)
	if err != nil {
		return &strict.Fault{File: c.Request, What: strict.Unreadable(err)}
	}
	var signed enroll.Signed
	if json.Unmarshal(b, &signed) != nil {
		return &strict.Fault{File: c.Request, What: "is no request of a gateway: plantmesh-edge enroll request writes one"}
	}
	a, err := hub.Carry(cfg, signed, c.As, c.NATS, time.Now())
	if err != nil {
		return err
	}
	if a.State != enroll.Approved {
		return &answer.Error{Code: answer.Rejected, Message: a.Why}
	}
	if b, err = json.MarshalIndent(a, "", "  "); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return p.Print(answer.Result{
		Data: a, Text: string(b) + "\n",
		Next: "plantmesh-edge enroll complete --config edge.yaml FILE   (on the gateway, this answer in FILE)",
	})
}

type refuseCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
	Why    string `required:"" help:"The reason; the gateway shows it."`
	Code   string `arg:"" help:"The code, or the fingerprint, that the gateway shows."`
}

func (c *refuseCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	a, err := hub.Refuse(cfg, c.Code, c.Why, time.Now())
	if err != nil {
		return err
	}
	return p.Print(answer.Result{Data: a, Text: fmt.Sprintf("%s\t%s\trefused\n", a.Code, a.Request.Agent)})
}

type keysCmd struct {
	Create keyCreateCmd `cmd:"" help:"Make a one-time key; it is shown once."`
	List   keyListCmd   `cmd:"" help:"List the one-time keys, and who used them."`
	End    keyEndCmd    `cmd:"" help:"End a one-time key before its time; who came by it stays."`
}

type keyCreateCmd struct {
	Config string        `required:"" type:"path" help:"hub.yaml"`
	Uses   int           `default:"1" help:"For how many gateways."`
	For    time.Duration `default:"24h" help:"How long it is good for."`
	Prefix string        `help:"Only for agents whose names begin so."`
	Note   string        `help:"What it is for."`
}

func (c *keyCreateCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	i, secret, err := hub.Invite(cfg, registry.Invite{Prefix: c.Prefix, Uses: c.Uses, Created: now, Expires: now.Add(c.For), Note: c.Note})
	if err != nil {
		return err
	}
	return p.Print(answer.Result{
		Data: map[string]any{"key": secret, "invite": i}, Text: secret + "\n",
		Next: "plantmesh-edge enroll --config edge.yaml --key-file FILE URL   (on the gateway, this key in FILE; it is not shown again)",
	})
}

type keyListCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
}

func (c *keyListCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	all, err := hub.Invites(cfg)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, i := range all {
		fmt.Fprintf(&text, "%s\tused %d of %d\tuntil %s\tby %s", i.ID, len(i.Used), i.Uses, i.Expires.Format(time.RFC3339), i.By)
		if i.Prefix != "" {
			text.WriteString("\tfor " + i.Prefix + "…")
		}
		if i.Ended != nil {
			text.WriteString("\tended " + i.Ended.Format(time.RFC3339))
		}
		if i.Note != "" {
			text.WriteString("\t" + i.Note)
		}
		text.WriteString("\n")
		for _, u := range i.Used {
			fmt.Fprintf(&text, "\t%s\t%s\t%s\n", u.Name, u.At.Format(time.RFC3339), enroll.Fingerprint(u.PublicKey))
		}
	}
	return p.Print(answer.Result{Data: map[string]any{"keys": all}, Text: text.String()})
}

type keyEndCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
	Why    string `help:"The reason, for the record."`
	ID     string `arg:"" help:"As list shows it."`
}

func (c *keyEndCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	i, err := hub.EndInvite(cfg, c.ID, c.Why, time.Now())
	if err != nil {
		return err
	}
	return p.Print(answer.Result{Data: i, Text: fmt.Sprintf("%s\tended %s\n", i.ID, i.Ended.Format(time.RFC3339))})
}
