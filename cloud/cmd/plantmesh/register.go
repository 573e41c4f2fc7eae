package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"plantmesh/cloud/hub"
	"plantmesh/cloud/registry/desk"
	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
)

// registrar is what every command has that changes the register.
type registrar struct {
	Config    string `required:"" type:"path" help:"hub.yaml of the hub that runs."`
	ValidFrom string `placeholder:"RFC3339" help:"From when it holds in the plant: an instant, or always; rows from there on are made again. That of a calendar may be up to 366 days ahead. Default: from now on."`
	Reason    string `help:"Why, for the audit trail."`
}

// said is what goes with every change.
func (r *registrar) said(more map[string]any) map[string]any {
	if more == nil {
		more = map[string]any{}
	}
	if r.ValidFrom != "" {
		more["valid_from"] = r.ValidFrom
	}
	if r.Reason != "" {
		more["reason"] = r.Reason
	}
	return more
}

// again is the same command without --dry-run: what was tried is what is done.
func (r *registrar) again(verb string, more ...string) string {
	words := []string{"plantmesh", "machines", verb, "--config", r.Config}
	if r.ValidFrom != "" {
		words = append(words, "--valid-from", r.ValidFrom)
	}
	if r.Reason != "" {
		words = append(words, "--reason", r.Reason)
	}
	return answer.Command(append(words, more...)...)
}

// ask has the running hub do something, and reads its answer into out.
func ask(ctx context.Context, config, method, to string, body, out any) error {
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return fmt.Errorf("write what is asked: %w", err)
		}
	}
	return asking{config, method, to, "application/json"}.with(ctx, b, out)
}

// asking is what a running hub is asked.
type asking struct{ config, method, to, kind string }

func (a asking) with(ctx context.Context, body []byte, out any) error {
	cfg, err := hub.LoadConfig(a.config)
	if err != nil {
		return err
	}
	b, err := hub.Call(ctx, cfg, a.method, desk.PlantPath+a.to, a.kind, body)
	if errors.Is(err, hub.ErrNotRunning) {
		return &answer.Error{
			Code: answer.NotRunning, Message: err.Error(), Hint: "the register is changed by the hub while it runs",
			Fix: answer.Command("plantmesh", "serve", "--config", a.config),
		}
	}
	if said, ok := errors.AsType[*hub.ChangeError](err); ok {
		return refused(said)
	}
	if err != nil {
		return err
	}
	if text, ok := out.(*string); ok {
		*text = string(b)
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("read the hub's answer: %w", err)
	}
	return nil
}

// refused is why the hub changed nothing.
func refused(said *hub.ChangeError) error {
	if said.Status >= http.StatusInternalServerError {
		return errors.New(said.Detail)
	}
	e := &answer.Error{Code: answer.Register, Message: said.Detail, Data: map[string]any{"faults": said.Faults}}
	if len(said.Faults) > 1 {
		for _, f := range said.Faults {
			e.Cause = append(e.Cause, f.String())
		}
	}
	return e
}

// changed prints what a change did.
func changed(p *answer.Printer, config string, done desk.Changed, text string) error {
	if len(done.Put)+len(done.Retired)+len(done.Models)+len(done.Calendars)+len(done.Removed) == 0 {
		return p.Print(answer.Result{Data: done, Text: "nothing to change\n"})
	}
	from := "from " + done.ValidFrom + " on"
	if done.ValidFrom == desk.Always {
		from = "for all of time"
	}
	out := answer.Result{Data: done, Text: fmt.Sprintf("%s; register %d, %s%s\n", text, done.Version, from, untilText(done))}
	switch n := len(done.Put); {
	case n == 1:
		out.Next = answer.Command("plantmesh", "machines", "list", "--config", config, done.Put[0])
	case n > 1:
		out.Next = answer.Command("plantmesh", "machines", "list", "--config", config)
	case len(done.Calendars)+len(done.Removed) > 0:
		out.Next = answer.Command("plantmesh", "calendars", "list", "--config", config)
	}
	return p.Print(out)
}

// untilText says when what is registered already takes the place of a change.
func untilText(done desk.Changed) string {
	if done.Until == "" {
		return ""
	}
	return ", until " + done.Until + ": what is registered for then stays"
}

// pairs reads --name a=b.
func pairs(name string, given []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range given {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" || v == "" {
			return nil, fmt.Errorf("%w: --%s %q is not as NAME=VALUE", hub.ErrUsage, name, s)
		}
		out[k] = v
	}
	return out, nil
}

// whole reads a file, which is bounded.
func whole(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > most {
		return nil, &strict.Fault{File: path, What: fmt.Sprintf("is larger than %d KiB: import it in parts", most>>10)}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, &strict.Fault{File: path, What: strict.Unreadable(err)}
	}
	return b, nil
}
