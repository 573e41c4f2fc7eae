package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/forward"
	"plantmesh/proto/answer"
	"plantmesh/proto/enroll"
	"plantmesh/proto/strict"
)

type enrollCmd struct {
	Ask      enrollAskCmd      `cmd:"" default:"withargs" help:"Ask a hub to let this gateway in, and wait until somebody does. Writes its key, its token and, where there is none, edge.yaml."`
	Status   enrollStatusCmd   `cmd:"" help:"Say where this gateway stands with its hub, as its own files have it."`
	Request  enrollRequestCmd  `cmd:"" help:"Write that request into a file, where no network leads to the hub."`
	Complete enrollCompleteCmd `cmd:"" help:"Take the hub's answer from a file."`
}

// joinFlags are those of each way to be let in.
type joinFlags struct {
	Config  string `required:"" type:"path" short:"c" help:"edge.yaml; it is written where it is not there."`
	Agent   string `help:"The name it would have; default: that of edge.yaml, else this machine's."`
	Site    string `help:"The site; default: that of edge.yaml, else the hub's."`
	KeyFile string `type:"path" help:"The file of a one-time key: then nobody has to approve this gateway."`
	Data    string `help:"Of an edge.yaml that is written: the folder of the buffer; default: data beside it."`
}

func (f *joinFlags) joining(hub string, road forward.Road) (j agent.Joining, err error) {
	j = agent.Joining{Config: f.Config, Hub: hub, Agent: f.Agent, Site: f.Site, Data: f.Data, Road: road}
	return j, j.Prepare()
}

type enrollAskCmd struct {
	joinFlags

	Proxy             string `placeholder:"URL" help:"The HTTP proxy on the way to the hub, as http://user@proxy.example:3128, for this and for data; written into edge.yaml. Default: hub.proxy of edge.yaml, else HTTPS_PROXY and NO_PROXY of the environment; none: straight there."`
	ProxyPasswordFile string `type:"path" placeholder:"FILE" help:"The file with the password of that user, and nothing else."`

	CA   string        `name:"ca" type:"path" help:"The certificate of the hub's own authority, as plantmesh authority prints it; without it the hub must have one that this machine trusts."`
	Wait time.Duration `default:"10m" help:"How long to wait for somebody to approve it; 0s: ask once."`
	URL  string        `arg:"" help:"The hub's address for people, as https://hub.example.com."`
}

func (c *enrollAskCmd) Run(ctx context.Context, p *answer.Printer) error {
	for _, other := range elsewhere() { // a word of other programs is no address
		if other.words == "enroll "+c.URL {
			return &answer.Error{Code: answer.Usage, Message: "there is no " + other.words, Hint: other.hint, Fix: other.fix}
		}
	}
	if _, err := agent.HubAddress(c.URL); err != nil {
		return &answer.Error{Code: answer.Usage, Message: err.Error()}
	}
	j, err := c.joining(c.URL, forward.Road{Proxy: c.Proxy, PasswordFile: c.ProxyPasswordFile})
	if err != nil {
		return err
	}
	signed, q, err := j.Request(c.KeyFile, answer.Build().Version)
	if err != nil {
		return err
	}
	a, err := c.await(ctx, p, agent.Door{Hub: c.URL, Road: j.Road, CA: c.CA}, signed, q)
	if err != nil {
		return err
	}
	if a.State == enroll.Pending {
		code, waited := answer.Pending, ""
		if c.Wait > 0 {
			code, waited = answer.Waited, fmt.Sprintf(" (waited %s)", c.Wait)
		}
		return &answer.Error{
			Code: code, Message: fmt.Sprintf("nobody has let this gateway in yet%s: its code is %s, its fingerprint %s", waited, enroll.Code(q.PublicKey), enroll.Fingerprint(q.PublicKey)),
			Hint: "once somebody has approved it at " + approveAt(c.URL, q.PublicKey) + ", or by plantmesh agents approve, say the same command again",
		}
	}
	return completed(p, &j, a)
}

// await asks until the hub has decided, or the time is over.
func (c *enrollAskCmd) await(ctx context.Context, p *answer.Printer, door agent.Door, signed enroll.Signed, q enroll.Request) (a enroll.Answer, err error) {
	deadline := time.Now().Add(c.Wait)
	for told := false; ; told = true {
		if a, err = door.Knock(ctx, signed); err != nil || a.State != enroll.Pending {
			return a, err
		}
		again := max(time.Second, time.Duration(a.Retry)*time.Second)
		if time.Until(deadline) < again {
			return a, nil
		}
		if !told {
			introduce(p, q, c.URL)
		}
		select {
		case <-ctx.Done():
			return a, ctx.Err()
		case <-time.After(again):
		}
	}
}

// introduce says what somebody has to compare and to type.
func introduce(p *answer.Printer, q enroll.Request, hub string) {
	p.Say("gateway      %s (%s, %s, %d cores)\nfingerprint  %s\ncode         %s\napprove at   %s\nwaiting until somebody presses Approve there, or types where the hub is:  plantmesh agents approve --config hub.yaml %s\n",
		q.Agent, q.Host.Name, q.Host.System, q.Host.Cores, enroll.Fingerprint(q.PublicKey), enroll.Code(q.PublicKey), approveAt(hub, q.PublicKey), enroll.Code(q.PublicKey))
}

// approveAt is the hub's page on which a gateway's key is approved.
func approveAt(hub, publicKey string) string {
	return strings.TrimSuffix(hub, "/") + enroll.Page + enroll.Code(publicKey)
}

// completed says how it stands once the hub has answered.
func completed(p *answer.Printer, j *agent.Joining, a enroll.Answer) error {
	lacks, err := j.Complete(a, time.Now())
	if err != nil {
		return err
	}
	notes(p.Narration(), lacks)
	return p.Print(answer.Result{
		Data: map[string]any{"agent": a.Agent, "site": a.Site, "config": j.Config, "nats": j.Sends(a), "lacks": lacks},
		Text: fmt.Sprintf("let in as %s at %s; %s\n", a.Agent, a.Site, j.Config),
		Next: answer.Command("plantmesh-edge", "check", "--config", j.Config),
	})
}

type enrollRequestCmd struct {
	joinFlags

	Out string `required:"" type:"path" help:"Write the request there."`
}

func (c *enrollRequestCmd) Run(p *answer.Printer) error {
	j, err := c.joining("", forward.Road{})
	if err != nil {
		return err
	}
	signed, q, err := j.Request(c.KeyFile, answer.Build().Version)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(signed, "", "  ")
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	if err := writeNew(c.Out, string(b)+"\n"); err != nil {
		return err
	}
	return p.Print(answer.Result{
		Data: map[string]any{"file": c.Out, "agent": q.Agent, "public_key": q.PublicKey, "fingerprint": enroll.Fingerprint(q.PublicKey), "code": enroll.Code(q.PublicKey)},
		Text: fmt.Sprintf("%s\t%s\t%s\n", c.Out, enroll.Code(q.PublicKey), enroll.Fingerprint(q.PublicKey)),
		Next: "plantmesh agents approve --config hub.yaml --request FILE > answer.json   (where the hub is, this file in FILE)",
	})
}

type enrollCompleteCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml; it is written where it is not there."`
	Data   string `help:"Of an edge.yaml that is written: the folder of the buffer; default: data beside it."`
	File   string `arg:"" type:"path" help:"The hub's answer."`
}

func (c *enrollCompleteCmd) Run(p *answer.Printer) error {
	b, err := os.ReadFile(c.File)
	if err != nil {
		return &strict.Fault{File: c.File, What: strict.Unreadable(err)}
	}
	var a enroll.Answer
	if len(b) > enroll.MaxAnswer || json.Unmarshal(b, &a) != nil || !strings.Contains(a.Token, "JWT") {
		return &strict.Fault{File: c.File, What: "is no answer of a hub: plantmesh agents approve --request writes one"}
	}
	j := agent.Joining{Config: c.Config, Data: c.Data, Agent: a.Agent, Site: a.Site}
	if err := j.Prepare(); err != nil {
		return err
	}
	return completed(p, &j, a)
}
