package main

import (
	"fmt"
	"time"

	"plantmesh/cloud/hub"
	"plantmesh/cloud/registry"
	"plantmesh/proto/answer"
	"plantmesh/proto/enroll"
)

type rotateCmd struct {
	Config    string        `required:"" type:"path" help:"hub.yaml"`
	Reason    string        `required:"" help:"Why; the audit trail keeps it."`
	Grace     time.Duration `default:"24h" help:"For how long tokens of the key before are good: agents that are connected, or come in that time, renew theirs meanwhile."`
	RevokeOld string        `enum:"later,now" default:"later" placeholder:"now" help:"now: the key before was stolen; whoever came in by it is thrown out within 5 s. Agents ask anew, where their edge.yaml has hub.enroll."`
}

func (c *rotateCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	if c.RevokeOld == "now" {
		c.Grace = 0
	}
	if c.Grace < 0 || c.Grace > registry.MaxGrace {
		return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--grace must lie between 0s and %s", registry.MaxGrace)}
	}
	r, err := hub.Rotate(cfg, c.Grace, c.Reason, time.Now())
	if err != nil {
		return err
	}
	before := r.Retired[len(r.Retired)-1]
	text := fmt.Sprintf("newest key\t%s\nkey before\t%s\tgood until %s\nagents\t%d, which get tokens of the newest key by themselves\n",
		enroll.Fingerprint(r.Key), enroll.Fingerprint(before.PublicKey), before.Until.Format(time.RFC3339), r.Agents)
	return p.Print(answer.Result{
		Data: r, Text: text,
		Next: answer.Command("plantmesh", "agents", "list", "--config", c.Config) + "   (an agent whose token is still of a key before says so; backups made before hold that key: keep none that a thief may have)",
	})
}
