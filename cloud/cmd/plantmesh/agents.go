package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"plantmesh/cloud/hub"
	porthttp "plantmesh/cloud/port/http"
	"plantmesh/cloud/registry"
	"plantmesh/proto/answer"
	"plantmesh/proto/revision"
)

type agentsCmd struct {
	Inbox   inboxCmd   `cmd:"" help:"List the gateways that ask to be let in."`
	Approve approveCmd `cmd:"" help:"Let in the gateway that shows a code; it fetches its token itself. Or answer a request that came in a file."`
	Refuse  refuseCmd  `cmd:"" help:"Tell the gateway that shows a code why it is not let in."`
	Keys    keysCmd    `cmd:"" help:"One-time keys, for gateways that nobody has to approve."`
	Enroll  enrollCmd  `cmd:"" help:"Sign an agent's public key; prints the token for its gateway."`
	Revoke  revokeCmd  `cmd:"" help:"Refuse an agent's key for good, as when its gateway was replaced or lost; a running hub closes its connection within seconds."`
	Rotate  rotateCmd  `cmd:"" help:"Make another key sign agents' tokens, as when the hub's keys may have been read; agents get new tokens by themselves."`
	List    listCmd    `cmd:"" help:"List the enrolled agents: which are online, how far behind, what waits, clock, token, version."`

	Configure     configureCmd     `cmd:"" help:"Give an agent its next configuration: the files of sources.d and rules.d."`
	Configuration configurationCmd `cmd:"" help:"How an agent is to be configured, and how it says it is."`
}

type enrollCmd struct {
	Config string        `required:"" type:"path" help:"hub.yaml"`
	Site   string        `required:"" help:"The site's name."`
	For    time.Duration `default:"2160h" help:"How long the token is good for, where the agent does not renew it before."`
	Agent  string        `arg:"" help:"The agent's name."`
	Key    string        `arg:"" help:"The public key that plantmesh-edge keygen printed."`
}

func (c *enrollCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	if c.For < registry.MinLifetime || c.For > registry.MaxLifetime {
		return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--for must lie between %s and %s", registry.MinLifetime, registry.MaxLifetime)}
	}
	token, err := hub.Enroll(cfg, c.Site, c.Agent, c.Key, c.For, time.Now())
	if err != nil {
		return err
	}
	return p.Print(answer.Result{
		Data: map[string]string{"site": c.Site, "agent": c.Agent, "token": token},
		Text: token + "\n",
		Next: "plantmesh-edge check --config edge.yaml   (on the gateway, this answer in its hub.token)",
	})
}

type revokeCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
	Site   string `required:"" help:"The site's name."`
	Reason string `help:"Why; the audit trail keeps it."`
	Agent  string `arg:"" help:"The agent's name."`
}

func (c *revokeCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	v, err := hub.Revoke(cfg, c.Site, c.Agent, c.Reason, time.Now())
	if err != nil {
		return err
	}
	return p.Print(answer.Result{
		Data: v,
		Text: fmt.Sprintf("%s\t%s\trevoked %s\tkey %s\n", v.Site, v.Name, v.Revoked.Format(time.RFC3339), v.PublicKey),
		Next: answer.Command("plantmesh", "agents", "enroll", "--config", c.Config) + " --site " + c.Site + " " + c.Agent + " KEY   (of the new gateway; it keeps the name)",
	})
}

type listCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
}

func (c *listCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	agents, signer, err := hub.Agents(cfg)
	if err != nil {
		return err
	}
	r := listed(agents, signer, c.Config)
	if fleet, at, ok := hub.Fleet(cfg, time.Now()); ok {
		r.Data.(map[string]any)["fleet"] = map[string]any{"at": at, "agents": fleet} //nolint:errcheck // listed makes it
		r.Text += fleetText(fleet)
	}
	return p.Print(r)
}

// fleetText is how agents are, a line each; what the hub does not know is a dash.
func fleetText(fleet []porthttp.Agent) string {
	var b strings.Builder
	for _, a := range fleet {
		fmt.Fprintf(&b, "%s\t%s\t%s\tsince %s\tlast data %s\tpending %s\tlag %s s\tlost %s\tautonomy %s h\tclock %s s\ttoken %.1f days\t%s\n", a.Site, a.Name, a.State,
			cmp.Or(a.Since, "-"), cmp.Or(a.LastSeen, "-"), told("%d", a.Pending), told("%.0f", a.Lag), told("%d", a.Lost), told("%.1f", a.Autonomy), told("%+.2f", a.Clock), a.TokenFor, cmp.Or(a.Version, "-"))
		if a.Sync != "" || a.Configuration != nil && a.Configuration.Hold != nil {
			b.WriteString(syncText(&a))
		}
	}
	return b.String()
}

// syncText is how an agent's configuration stands.
func syncText(a *porthttp.Agent) string {
	has := "nobody knows which it has"
	if r := a.Configuration; r != nil {
		has = "it has " + r.String()
	}
	wanted := revision.Ref{Number: a.Desired}
	text := fmt.Sprintf("\tconfiguration %s\t%s, wanted %s\n", cmp.Or(a.Sync, "its own"), has, wanted)
	if a.Configuration != nil {
		text += whyText("\t\t", a.Configuration)
	}
	return text
}

func told[T any](format string, v *T) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf(format, *v)
}

// listed are the enrolled agents, a line each; signer is the key that signs tokens now.
func listed(agents []registry.Agent, signer, config string) answer.Result {
	var text strings.Builder
	for _, a := range agents {
		fmt.Fprintf(&text, "%s\t%s\tenrolled %s\tuntil %s", a.Site, a.Name, a.Enrolled.Format(time.RFC3339), a.Expires.Format(time.RFC3339))
		if a.Revoked != nil {
			text.WriteString("\trevoked " + a.Revoked.Format(time.RFC3339))
		} else if a.Signer != "" && a.Signer != signer {
			text.WriteString("\ttoken of a signing key of before")
		}
		text.WriteString("\n")
	}
	r := answer.Result{Data: map[string]any{"agents": agents, "signer": signer}, Text: text.String()}
	if len(agents) == 0 {
		r.Data = map[string]any{"agents": []registry.Agent{}, "signer": signer}
		r.Next = answer.Command("plantmesh", "agents", "enroll", "--config", config) + " --site SITE AGENT KEY   (the key is what plantmesh-edge keygen printed)"
	}
	return r
}
