package main

import (
	"fmt"
	"strings"
	"time"

	"plantmesh/cloud/access"
	"plantmesh/cloud/access/desk"
	"plantmesh/cloud/hub"
	"plantmesh/proto/answer"
)

type usersCmd struct {
	Add   userAddCmd   `cmd:"" help:"Add somebody; prints the link by which they set their password, good once and for a day."`
	List  userListCmd  `cmd:"" help:"List the users."`
	Show  userShowCmd  `cmd:"" help:"Show one user, with their sessions and tokens."`
	Role  userRoleCmd  `cmd:"" help:"Roles of a user."`
	Reset userResetCmd `cmd:"" help:"Make a new link; the password and all sessions end."`
	End   userEndCmd   `cmd:"" help:"End a user for good, with all sessions and tokens, at once."`
}

type userRoleCmd struct {
	Grant    roleGrantCmd    `cmd:"" help:"Give a user a role, everywhere or at a location and below it."`
	Withdraw roleWithdrawCmd `cmd:"" help:"Take a role from a user."`
}

// me is who types, for the record.
func me() access.Caller { return access.Caller{User: hub.Operator(), Via: access.ViaCLI} }

// opened reads a configuration and opens who may do what.
func opened(config string) (hub.Config, *access.Access, error) {
	cfg, err := hub.LoadConfig(config)
	if err != nil {
		return cfg, nil, err
	}
	if err := hub.Mine(cfg); err != nil {
		return cfg, nil, err
	}
	a, err := hub.Access(cfg)
	return cfg, a, err
}

// shown is a user as commands show one: nothing of a password.
type shown struct {
	Name        string     `json:"name"`
	Roles       []string   `json:"roles"`
	Created     time.Time  `json:"created"`
	By          string     `json:"by"`
	PasswordSet *time.Time `json:"password_set"`
	Ended       *time.Time `json:"ended"`
}

func show(u access.User) shown {
	s := shown{Name: u.Name, Roles: []string{}, Created: u.Created, By: u.By, PasswordSet: u.Set, Ended: u.Ended}
	for _, g := range u.Grants {
		s.Roles = append(s.Roles, g.String())
	}
	return s
}

// line is a user in a line.
func line(u access.User) string {
	state := "no password yet"
	switch {
	case u.Ended != nil:
		state = "ended " + u.Ended.Format(time.RFC3339)
	case u.Set != nil:
		state = "password of " + u.Set.Format(time.RFC3339)
	}
	roles := access.Said(u.Grants)
	if roles == "" {
		roles = "no role"
	}
	return fmt.Sprintf("%s\t%s\t%s\tby %s\n", u.Name, roles, state, u.By)
}

// linked is the answer that tells a link.
func linked(cfg hub.Config, config string, u access.User, secret string) answer.Result {
	link := cfg.HTTP.Address() + desk.FirstPath(secret)
	return answer.Result{
		Data: map[string]any{"user": show(u), "link": link},
		Text: link + "\n",
		Next: answer.Command("plantmesh", "serve", "--config", config) + "   (where it does not run yet; then " + u.Name + " opens this link, within 24 hours; it is not shown again)",
	}
}

type userAddCmd struct {
	Config string   `required:"" type:"path" help:"hub.yaml"`
	Role   []string `required:"" placeholder:"ROLE[@LOCATION]" help:"viewer, technician, operator, quality-engineer, maintainer, product-owner, governor or admin; everywhere, or as operator@graz/line1. May be given several times."`
	Why    string   `help:"The reason, for the record."`
	Name   string   `arg:"" help:"Lower case letters, digits, '.', '-', '_' and '@'."`
}

func (c *userAddCmd) Run(p *answer.Printer) error {
	cfg, a, err := opened(c.Config)
	if err != nil {
		return err
	}
	grants, err := hub.Grants(cfg, c.Role)
	if err != nil {
		return err
	}
	u, secret, err := a.AddUser(me(), c.Name, grants, c.Why)
	if err != nil {
		return err
	}
	return p.Print(linked(cfg, c.Config, u, secret))
}

type userListCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
}

func (c *userListCmd) Run(p *answer.Printer) error {
	_, a, err := opened(c.Config)
	if err != nil {
		return err
	}
	all, err := a.Users()
	if err != nil {
		return err
	}
	var text strings.Builder
	users := []shown{}
	for _, u := range all {
		text.WriteString(line(u))
		users = append(users, show(u))
	}
	r := answer.Result{Data: map[string]any{"users": users}, Text: text.String()}
	if len(all) == 0 {
		r.Next = answer.Command("plantmesh", "users", "add", "--config", c.Config) + " --role admin NAME   (until then the hub listens on loopback, for all who are on this machine)"
	}
	return p.Print(r)
}

type userShowCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
	Name   string `arg:"" help:"As list shows it."`
}

func (c *userShowCmd) Run(p *answer.Printer) error {
	_, a, err := opened(c.Config)
	if err != nil {
		return err
	}
	u, err := a.User(c.Name)
	if err != nil {
		return err
	}
	sessions, err := a.Sessions(u.Name)
	if err != nil {
		return err
	}
	tokens, err := a.TokensOf(u.Name)
	if err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString(line(u))
	for _, s := range sessions {
		fmt.Fprintf(&text, "\tsession %s\tsince %s\tlast %s\tfrom %s\t%s\n", s.ID, s.Created.Format(time.RFC3339), s.Seen.Format(time.RFC3339), s.Address, s.Program)
	}
	for _, t := range tokens {
		text.WriteString("\ttoken " + tokenLine(t))
	}
	return p.Print(answer.Result{Data: map[string]any{"user": show(u), "sessions": sessions, "tokens": tokensShown(tokens)}, Text: text.String()})
}

type roleGrantCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
	Why    string `help:"The reason, for the record."`
	Name   string `arg:"" help:"As list shows it."`
	Role   string `arg:"" help:"As operator, or operator@graz/line1."`
}

func (c *roleGrantCmd) Run(p *answer.Printer) error {
	cfg, a, err := opened(c.Config)
	if err != nil {
		return err
	}
	grants, err := hub.Grants(cfg, []string{c.Role})
	if err != nil {
		return err
	}
	u, err := a.Grant(me(), c.Name, grants[0], c.Why)
	if err != nil {
		return err
	}
	return p.Print(answer.Result{Data: show(u), Text: line(u)})
}

type roleWithdrawCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
	Why    string `help:"The reason, for the record."`
	Name   string `arg:"" help:"As list shows it."`
	Role   string `arg:"" help:"As show says it."`
}

func (c *roleWithdrawCmd) Run(p *answer.Printer) error {
	_, a, err := opened(c.Config)
	if err != nil {
		return err
	}
	g, err := access.ParseGrant(c.Role)
	if err != nil {
		return err
	}
	u, err := a.Withdraw(me(), c.Name, g, c.Why)
	if err != nil {
		return err
	}
	return p.Print(answer.Result{Data: show(u), Text: line(u)})
}

type userResetCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
	Why    string `help:"The reason, for the record."`
	Name   string `arg:"" help:"As list shows it."`
}

func (c *userResetCmd) Run(p *answer.Printer) error {
	cfg, a, err := opened(c.Config)
	if err != nil {
		return err
	}
	u, secret, err := a.Reset(me(), c.Name, c.Why)
	if err != nil {
		return err
	}
	return p.Print(linked(cfg, c.Config, u, secret))
}

type userEndCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
	Why    string `help:"The reason, for the record."`
	Name   string `arg:"" help:"As list shows it."`
}

func (c *userEndCmd) Run(p *answer.Printer) error {
	_, a, err := opened(c.Config)
	if err != nil {
		return err
	}
	u, err := a.End(me(), c.Name, c.Why)
	if err != nil {
		return err
	}
	return p.Print(answer.Result{Data: show(u), Text: line(u)})
}

type authorityCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
}

// Run prints what browsers and programs are told to trust.
func (c *authorityCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	pem, err := hub.Authority(cfg)
	if err != nil {
		return err
	}
	return p.Print(answer.Result{
		Data: map[string]string{"certificate": pem}, Text: pem,
		Next: "curl --cacert FILE " + cfg.HTTP.Address() + "/livez   (this answer in FILE; browsers take it, too)",
	})
}
