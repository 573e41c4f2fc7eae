package main

import (
	"fmt"
	"strings"
	"time"

	"plantmesh/cloud/access"
	"plantmesh/cloud/hub"
	"plantmesh/proto/answer"
)

type tokensCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make a token for a program of a user; it is shown once."`
	List   tokenListCmd   `cmd:"" help:"List the tokens, and when they were last used."`
	End    tokenEndCmd    `cmd:"" help:"End a token before its time, at once."`
}

// tokenShown is a token as commands show one: nothing of its secret.
type tokenShown struct {
	access.Token

	Roles    []string     `json:"roles"`
	LastUsed *access.Used `json:"last_used"`
}

func tokensShown(tokens []access.Token) []tokenShown {
	out := []tokenShown{}
	for _, t := range tokens {
		s := tokenShown{Token: t, Roles: []string{}, LastUsed: t.Used}
		for _, g := range t.Grants {
			s.Roles = append(s.Roles, g.String())
		}
		out = append(out, s)
	}
	return out
}

// tokenLine is a token in a line.
func tokenLine(t access.Token) string {
	used := "never used"
	if t.Used != nil {
		used = "last used " + t.Used.At.Format(time.RFC3339) + " from " + t.Used.Address
	}
	until := "until " + t.Expires.Format(time.RFC3339)
	if t.Ended != nil {
		until = "ended " + t.Ended.Format(time.RFC3339)
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.User, access.Said(t.Grants), until, used, t.Note)
}

type tokenCreateCmd struct {
	Config string        `required:"" type:"path" help:"hub.yaml"`
	User   string        `required:"" help:"Whose it is; it never may more than they."`
	Role   []string      `required:"" placeholder:"ROLE[@LOCATION]" help:"What it may, as viewer or viewer@graz/line1. May be given several times."`
	For    time.Duration `required:"" placeholder:"720h" help:"How long it is good for, at most 9600h."`
	Note   string        `help:"What it is for."`
}

func (c *tokenCreateCmd) Run(p *answer.Printer) error {
	cfg, a, err := opened(c.Config)
	if err != nil {
		return err
	}
	grants, err := hub.Grants(cfg, c.Role)
	if err != nil {
		return err
	}
	t, secret, err := a.CreateToken(me(), c.User, grants, c.For, c.Note)
	if err != nil {
		return err
	}
	return p.Print(answer.Result{
		Data: map[string]any{"token": secret, "is": tokensShown([]access.Token{t})[0]}, Text: secret + "\n",
		Next: `curl -H @FILE ` + cfg.HTTP.Address() + `/api/v1/products   ("Authorization: Bearer " and this token in FILE; it is not shown again)`,
	})
}

type tokenListCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
	User   string `help:"Only those of this user."`
}

func (c *tokenListCmd) Run(p *answer.Printer) error {
	_, a, err := opened(c.Config)
	if err != nil {
		return err
	}
	all, err := a.TokensOf(c.User)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, t := range all {
		text.WriteString(tokenLine(t))
	}
	return p.Print(answer.Result{Data: map[string]any{"tokens": tokensShown(all)}, Text: text.String()})
}

type tokenEndCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
	Why    string `help:"The reason, for the record."`
	ID     string `arg:"" help:"As list shows it."`
}

func (c *tokenEndCmd) Run(p *answer.Printer) error {
	_, a, err := opened(c.Config)
	if err != nil {
		return err
	}
	t, err := a.EndToken(me(), c.ID, "", c.Why)
	if err != nil {
		return err
	}
	return p.Print(answer.Result{Data: tokensShown([]access.Token{t})[0], Text: tokenLine(t)})
}
