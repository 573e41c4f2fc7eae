package main

import (
	"context"
	"fmt"
	"net/url"
	"os"

	"plantmesh/edge/agent"
	"plantmesh/proto/answer"
)

// uiCmd lets a browser look at this gateway.
type uiCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
}

func (c *uiCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Data, agent.Page)
	if err != nil {
		return err
	}
	link, err := agent.Invite(ctx, cfg)
	if err != nil {
		return err
	}
	if u, err := url.Parse(link.URL); err == nil {
		host, _ := os.Hostname() // nobody has to have one
		notes(p.Narration(), []string{
			"the link lets one browser in, once, until " + link.Until,
			fmt.Sprintf("from a laptop, first: ssh -L %s:%s %s", u.Port(), u.Host, host),
		})
	}
	return p.Print(answer.Result{Data: link, Text: link.URL + "\n"})
}
