package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/proto/answer"
)

type enrollStatusCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
}

func (c *enrollStatusCmd) Run(p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if asked := agent.Asked(c.Config); err != nil && asked != nil {
		cfg, err = *asked, nil
	}
	if err != nil {
		return err
	}
	ask := answer.Command("plantmesh-edge", "enroll", cmp.Or(cfg.Hub.Enroll, "https://hub.example.com"), "--config", c.Config)
	m, err := cfg.Membership(time.Now())
	if err != nil {
		return err
	}
	if m.State != agent.LetIn {
		code := answer.Pending
		if m.State == agent.LetInBefore {
			code = answer.Expired
		}
		return &answer.Error{Code: code, Message: m.Says, Fix: ask, Data: m}
	}
	var text strings.Builder
	for _, line := range [][2]string{
		{"agent", m.Agent + " at " + m.Site},
		{"hub", m.Hub},
		{"enrol at", m.Enroll},
		{"token", m.Token + ", until " + cmp.Or(m.Expires, "it is revoked")},
		{"fingerprint", m.Fingerprint},
	} {
		if line[1] != "" {
			fmt.Fprintf(&text, "%-12s %s\n", line[0], line[1])
		}
	}
	return p.Print(answer.Result{Data: m, Text: text.String(), Next: answer.Command("plantmesh-edge", "check", "--section", "identity,cloud", "--config", c.Config)})
}
