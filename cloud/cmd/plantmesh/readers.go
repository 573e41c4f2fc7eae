package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"plantmesh/cloud/hub"
	"plantmesh/cloud/registry"
	"plantmesh/proto/answer"
	"plantmesh/proto/subject"
)

type readersCmd struct {
	Add    readerAddCmd    `cmd:"" help:"Let a program read products over NATS, and nothing else; prints its credentials, once."`
	Renew  readerRenewCmd  `cmd:"" help:"Give a reader other credentials; those of before end within seconds, and it goes on where it is."`
	List   readerListCmd   `cmd:"" help:"List the readers."`
	Rewind readerRewindCmd `cmd:"" help:"Have a reader read again: all rows, or those that were published since."`
	Revoke readerRevokeCmd `cmd:"" help:"End what a reader may; a running hub closes its connections within seconds."`
}

type readerAddCmd struct {
	Config  string        `required:"" type:"path" help:"hub.yaml"`
	Product []string      `placeholder:"ID" help:"Which products, as oee; default: all that are published. May be given several times."`
	Expires time.Duration `default:"2160h" help:"How long its credentials are good, at most 9600h."`
	Note    string        `help:"Who it is and what for; the audit trail keeps it."`
	Out     string        `type:"path" placeholder:"FILE" help:"Write the credentials to a file that is not there yet, instead of stdout."`
	Name    string        `arg:"" help:"The reader's name, as maintenance."`
}

func (c *readerAddCmd) Run(p *answer.Printer) error {
	cfg, err := mine(c.Config)
	if err != nil {
		return err
	}
	if err := absent(c.Out); err != nil {
		return err
	}
	r, credentials, err := hub.AddReader(cfg, c.Name, c.Product, c.Expires, c.Note, time.Now())
	if err != nil {
		return err
	}
	return given(p, cfg, r, credentials, c.Out)
}

type readerRenewCmd struct {
	Config  string        `required:"" type:"path" help:"hub.yaml"`
	Expires time.Duration `default:"2160h" help:"How long the credentials are good, at most 9600h."`
	Out     string        `type:"path" placeholder:"FILE" help:"Write them to a file that is not there yet, instead of stdout."`
	Name    string        `arg:"" help:"The reader's name."`
}

func (c *readerRenewCmd) Run(p *answer.Printer) error {
	cfg, err := mine(c.Config)
	if err != nil {
		return err
	}
	if err := absent(c.Out); err != nil {
		return err
	}
	r, credentials, err := hub.RenewReader(cfg, c.Name, c.Expires, time.Now())
	if err != nil {
		return err
	}
	return given(p, cfg, r, credentials, c.Out)
}

// mine is the configuration of a hub whose files whoever types may change.
func mine(path string) (cfg hub.Config, err error) {
	if cfg, err = hub.LoadConfig(path); err == nil {
		err = hub.Mine(cfg)
	}
	return cfg, err
}

// absent refuses a file that is there, before anything is done: it may be another's.
func absent(path string) error {
	if path == "" {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return &answer.Error{Code: answer.FileExists, Message: path + " is there already: name a file that is not"}
	}
	return nil
}

// given shows credentials, once.
func given(p *answer.Printer, cfg hub.Config, r registry.Reader, credentials, out string) error {
	data := map[string]any{"reader": r}
	text, file := credentials, "FILE"
	if out == "" {
		data["credentials"] = credentials
	} else {
		if err := put(out, credentials); err != nil {
			return fmt.Errorf("the credentials are made and not written, as nobody has them: plantmesh readers renew makes others: %w", err)
		}
		data["out"], text, file = out, readerLine(&r), out
	}
	at := cfg.NATS.Listen
	if host, port, err := net.SplitHostPort(at); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			at = "HUB:" + port
		}
	}
	return p.Print(answer.Result{
		Data: data, Text: text,
		Next: fmt.Sprintf("nats --server nats://%s --creds %s --tlsca %s --js-domain %s consumer next %s %s --count 10   (on the reader's machine; the file holds the key: it is not shown again)",
			at, file, file, subject.Token(r.Domain), subject.ProductStream, r.Name),
	})
}

func put(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// readerLine is a reader in a line.
func readerLine(r *registry.Reader) string {
	end := "until " + r.Expires.Format(time.RFC3339)
	if r.Revoked != nil {
		end = "revoked " + r.Revoked.Format(time.RFC3339)
	} else if !r.Good(time.Now()) {
		end = "expired " + r.Expires.Format(time.RFC3339)
	}
	if r.Rewound != nil {
		end += ", rewound " + r.Rewound.At.Format(time.RFC3339) + " to " + r.Rewound.String()
	}
	return fmt.Sprintf("%s\t%s\tadded %s\t%s\tby %s\t%s\n", r.Name, strings.Join(r.Reads, ", "), r.Added.Format(time.RFC3339), end, r.By, r.Note)
}

type readerListCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
}

func (c *readerListCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	all, err := hub.Readers(cfg)
	if err != nil {
		return err
	}
	r := answer.Result{Data: map[string]any{"readers": all}}
	for i := range all {
		r.Text += readerLine(&all[i])
	}
	if len(all) == 0 {
		r.Next = answer.Command("plantmesh", "readers", "add", "--config", c.Config) + " NAME"
	}
	return p.Print(r)
}

type readerRewindCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
	From   string `placeholder:"TIME" help:"The rows that the hub published then and later, as 2026-03-01T06:00:00Z."`
	All    bool   `help:"All rows that the stream still has."`
	Why    string `help:"The reason, for the record."`
	Name   string `arg:"" help:"The reader's name."`
}

func (c *readerRewindCmd) Run(p *answer.Printer) error {
	if c.All == (c.From != "") {
		return &answer.Error{Code: answer.Usage, Message: "say --from with a time, or --all"}
	}
	var from *time.Time
	if c.From != "" {
		at, err := time.Parse(time.RFC3339, c.From)
		if err != nil {
			return fmt.Errorf("%w: --from %q is no time such as 2026-03-01T06:00:00Z", hub.ErrUsage, c.From)
		}
		from = &at
	}
	cfg, err := mine(c.Config)
	if err != nil {
		return err
	}
	r, err := hub.RewindReader(cfg, c.Name, from, c.Why, time.Now())
	if err != nil {
		return err
	}
	return p.Print(answer.Result{Data: r, Text: readerLine(&r) + "a running hub does it within seconds; programs that read lose their connection, and read again when they come back\n"})
}

type readerRevokeCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
	Why    string `help:"The reason, for the record."`
	Name   string `arg:"" help:"The reader's name."`
}

func (c *readerRevokeCmd) Run(p *answer.Printer) error {
	cfg, err := mine(c.Config)
	if err != nil {
		return err
	}
	r, err := hub.RevokeReader(cfg, c.Name, c.Why, time.Now())
	if err != nil {
		return err
	}
	return p.Print(answer.Result{Data: r, Text: readerLine(&r)})
}
