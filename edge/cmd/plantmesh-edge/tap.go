package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/edge/status"
	"plantmesh/proto/answer"
)

// tapCmd tells samples as they are stored.
type tapCmd struct {
	Config  string        `required:"" type:"path" short:"c" help:"edge.yaml"`
	Source  string        `help:"Of this source alone."`
	Quality string        `enum:"good,uncertain,bad," default:"" help:"Only good, uncertain or bad ones."`
	Limit   int           `help:"End after so many; default: go on until Ctrl-C."`
	For     time.Duration `help:"End after this time."`
	Rate    int           `default:"100" help:"Samples a second that are told, at most; how many are left out is said."`
	JSONL   bool          `name:"jsonl" help:"A line of JSON for each sample."`
	Raw     bool          `help:"Values as they come from the machine, before mapping and rules: node or topic, type, text, status and stamps as it says them; also what becomes no sample, and why."`

	Pattern string `arg:"" optional:"" help:"Which signals: a glob such as '*.press.*', or a part of the name; with --raw also of a node or topic; default: all."`
}

// mostTold bounds what --json gathers.
const mostTold = 10_000

// tapped is the answer of --json.
type tapped struct {
	Samples []status.Sample    `json:"samples"`
	Raw     []status.RawSample `json:"raw,omitempty"` // instead, with --raw
	LeftOut uint64             `json:"left_out"`      // asked for, and more than the rate, or than could be taken
	Others  uint64             `json:"others"`        // that were not asked for, as far as was said
}

// errEnough ends a tap that has what it wants.
var errEnough = errors.New("enough")

func (c *tapCmd) Run(ctx context.Context, p *answer.Printer) error {
	if c.Limit < 0 || c.Rate < 1 || c.Rate > status.MaxRate || c.For < 0 {
		return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--limit and --for are not negative, and --rate lies between 1 and %d", status.MaxRate)}
	}
	if p.JSON && c.JSONL {
		return &answer.Error{Code: answer.Usage, Message: "--json is one document at the end, --jsonl a line for each sample: take one of them"}
	}
	if err := agent.Pattern(c.Pattern); err != nil {
		return &answer.Error{Code: answer.Usage, Message: err.Error()}
	}
	if p.JSON {
		c.Limit = min(cmp.Or(c.Limit, mostTold), mostTold)
	}
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	t := telling{cmd: c, out: p.Out, says: p.Narration(), gather: p.JSON}
	t.got.Samples = []status.Sample{}
	err = agent.Tap(ctx, cfg, status.TapQuery{Pattern: c.Pattern, Source: c.Source, Quality: c.Quality, Rate: c.Rate, Raw: c.Raw}, t.line)
	if err != nil && !errors.Is(err, errEnough) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if t.count == 0 && !p.JSON {
		said := "no sample that was asked for was stored meanwhile"
		if c.Raw {
			said = "nothing that was asked for came from a machine meanwhile: plantmesh-edge status says which are connected"
		}
		notes(p.Narration(), []string{said})
	}
	return p.Print(answer.Result{Data: t.got})
}

// telling is one tap as it goes on.
type telling struct {
	cmd    *tapCmd
	out    io.Writer
	says   io.Writer
	gather bool
	count  int
	hinted bool
	got    tapped
}

func (t *telling) line(l status.Tapped) error {
	switch {
	case l.Sample != nil:
		t.count++
		if err := t.sample(l.Sample, l.Sample.Line); err != nil {
			return err
		}
	case l.Raw != nil:
		t.count++
		if err := t.sample(l.Raw, l.Raw.Line); err != nil {
			return err
		}
	case l.LeftOut > 0:
		t.got.LeftOut += l.LeftOut
		if !t.gather {
			notes(t.says, []string{fmt.Sprintf("%d samples left out here: more came than --rate %d, or than could be written; a narrower pattern shows all of it", l.LeftOut, t.cmd.Rate)})
		}
	case l.Others > 0:
		t.got.Others += l.Others
		if !t.hinted && t.count == 0 && !t.gather {
			t.hinted = true
			notes(t.says, []string{browse.Printable(fmt.Sprintf("nothing that was asked for yet; %d others came, such as %s", l.Others, l.Such))})
		}
	}
	if t.cmd.Limit > 0 && t.count >= t.cmd.Limit {
		return errEnough
	}
	return nil
}

// sample tells a *status.Sample or a *status.RawSample.
func (t *telling) sample(s any, words func() string) (err error) {
	switch {
	case t.gather:
		switch s := s.(type) {
		case *status.Sample:
			t.got.Samples = append(t.got.Samples, *s)
		case *status.RawSample:
			t.got.Raw = append(t.got.Raw, *s)
		}
	case t.cmd.JSONL:
		var b []byte
		if b, err = json.Marshal(s); err == nil {
			_, err = t.out.Write(append(b, '\n'))
		}
	default:
		_, err = fmt.Fprintln(t.out, words())
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// bufferPeekCmd looks into the buffer.
type bufferPeekCmd struct {
	Config  string `required:"" type:"path" short:"c" help:"edge.yaml"`
	Last    bool   `help:"The newest records, whether the hub has them or not; else the oldest that wait."`
	From    string `help:"Records that touch a window of event times, whether the hub has them or not: its begin, as 2026-03-01T06:00:00Z."`
	To      string `help:"Its end; default: the newest."`
	Source  string `help:"Of this source alone."`
	Limit   int    `default:"10" help:"Records, at most."`
	Samples int    `default:"5" help:"Samples of each record, at most."`
}

func (c *bufferPeekCmd) Run(ctx context.Context, p *answer.Printer) error {
	if c.Limit < 1 || c.Limit > status.MaxPeeked || c.Samples < 0 || c.Samples > status.MaxSamples/c.Limit {
		return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--limit lies between 1 and %d, and all samples together are at most %d", status.MaxPeeked, status.MaxSamples)}
	}
	if err := between(c.From, c.To); err != nil {
		return err
	}
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	records, err := agent.PeekBuffer(ctx, cfg, status.PeekQuery{Last: c.Last, Source: c.Source, From: c.From, To: c.To, Limit: c.Limit, Samples: c.Samples})
	if err != nil {
		return err
	}
	r := answer.Result{Data: map[string]any{"records": records}}
	if len(records) == 0 {
		r.Text = "nothing waits: the hub has everything that is kept here\n"
		switch {
		case c.From+c.To != "":
			r.Text = "no record that is kept here touches the window; buffer export says from when on something is kept\n"
		case c.Source != "":
			r.Text = fmt.Sprintf("nothing of %s is there\n", browse.Printable(c.Source))
		}
		r.Next = answer.Command("plantmesh-edge", "buffer", "peek", "--last", "--config", c.Config)
		if c.Last {
			r.Next = answer.Command("plantmesh-edge", "status", "--config", c.Config)
		}
		return p.Print(r)
	}
	var text strings.Builder
	for i := range records {
		if err := records[i].Print(&text); err != nil {
			return err
		}
	}
	r.Text = text.String()
	return p.Print(r)
}
