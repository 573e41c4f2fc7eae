package main

import (
	"fmt"
	"time"

	"plantmesh/proto/answer"
)

// windowFlags say which window of event times is meant.
type windowFlags struct {
	From string        `help:"The begin of the window, as 2026-03-01T06:00:00Z: event times."`
	To   string        `help:"Its end; default: the newest."`
	Last time.Duration `help:"Instead of --from: so much until now."`
}

// check looks at what was said of when, and makes --from of --last. needed: without a begin
// there is no window.
func (w *windowFlags) check(needed bool) error {
	switch {
	case w.Last < 0 || needed && (w.From == "") == (w.Last == 0) || w.From != "" && w.Last > 0:
		return &answer.Error{Code: answer.Usage, Message: "say either --from, with or without --to, or --last"}
	case w.Last > 0 && w.To != "":
		return &answer.Error{Code: answer.Usage, Message: "--last ends now: leave --to out"}
	case w.Last > 0:
		w.From = time.Now().Add(-w.Last).UTC().Format(time.RFC3339)
	}
	return between(w.From, w.To)
}

// between looks at the bounds of a window; either may be left out.
func between(from, to string) error {
	for _, f := range [][2]string{{"from", from}, {"to", to}} {
		if _, err := time.Parse(time.RFC3339, f[1]); f[1] != "" && err != nil {
			return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--%s %s is no time such as 2026-03-01T06:00:00Z", f[0], f[1])}
		}
	}
	begin, _ := time.Parse(time.RFC3339, from) // they were looked at
	end, _ := time.Parse(time.RFC3339, to)
	if from != "" && to != "" && !begin.Before(end) {
		return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("the window from %s to %s is empty", from, to)}
	}
	return nil
}
