package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"plantmesh/cloud/hub"
	"plantmesh/proto/answer"
)

type exportCmd struct {
	Config    string   `required:"" type:"path" help:"hub.yaml; its hub may run meanwhile."`
	From      string   `required:"" placeholder:"2026-03-01" help:"The first UTC day."`
	To        string   `placeholder:"2026-03-31" help:"The last UTC day; default: the first."`
	Equipment []string `placeholder:"ID" help:"Only signals of this equipment; may be given several times."`
	Out       string   `required:"" type:"path" help:"The folder; files are product=signals/date=DAY/part-N.parquet in it."`
}

func (c *exportCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	r := hub.ExportRequest{Equipment: c.Equipment, Out: c.Out}
	if r.From, err = day("--from", c.From); err != nil {
		return err
	}
	r.To = r.From
	if c.To != "" {
		if r.To, err = day("--to", c.To); err != nil {
			return err
		}
	}
	files, err := hub.Export(ctx, cfg, r, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, f := range files {
		fmt.Fprintf(&text, "%s\t%d rows\t%d bytes\n", f.Path, f.Rows, f.Bytes)
	}
	out := answer.Result{Data: map[string]any{"files": files}, Text: text.String()}
	if len(files) == 0 {
		out.Data = map[string]any{"files": []hub.Exported{}}
	}
	return p.Print(out)
}

func day(flag, text string) (time.Time, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return t, fmt.Errorf("%w: %s %q is no day such as 2026-03-01", hub.ErrUsage, flag, text)
	}
	return t, nil
}
