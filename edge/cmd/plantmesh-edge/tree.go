package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/proto/answer"
)

// tree prints nodes as they come, and keeps them.
type tree struct {
	out    *bufio.Writer
	picky  bool // only those that were picked, with their paths
	silent bool
	nodes  []browse.Node
	shown  time.Time // when out was flushed last
}

func (t *tree) tell(n *browse.Node) error {
	t.nodes = append(t.nodes, *n)
	if t.silent || !t.shows(n) {
		return nil
	}
	name := strings.Repeat("  ", n.Depth) + n.Name
	if t.picky {
		name = t.path(n)
	}
	if _, err := fmt.Fprintf(t.out, "%-40s  %-30s  %s\n", name, what(n), browse.Printable(n.ID)); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if time.Since(t.shown) < flushEach {
		return nil
	}
	t.shown = time.Now()
	return t.out.Flush()
}

// shows: it is one of those that were picked, and no property of a variable.
func (t *tree) shows(n *browse.Node) bool {
	return (!t.picky || n.Picked) && (n.Type != propertyType || n.Parent < 0 || t.nodes[n.Parent].Class != "variable")
}

// flushEach is how long what is found may wait for more before it is shown.
const flushEach = 100 * time.Millisecond

// path is where a node stands, from the start.
func (t *tree) path(n *browse.Node) string {
	parts := []string{n.Name}
	for at := n.Parent; at >= 0; at = t.nodes[at].Parent {
		parts = append(parts, t.nodes[at].Name)
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

// told are the nodes that the answer of --json has.
func (t *tree) told() (out []browse.Node) {
	if !t.picky {
		return t.nodes
	}
	for _, n := range t.nodes {
		if n.Picked {
			out = append(out, n)
		}
	}
	return out
}

func valueText(v *browse.Value, unit string) string {
	text := v.Text
	if text == "" {
		text = "no value"
	}
	if unit != "" {
		text += " " + unit
	}
	return text
}

// unwell is a status that is worth a word.
func unwell(v *browse.Value) string {
	if v.Status == "Good" {
		return ""
	}
	return "  " + v.Status
}

// what a node is, in words.
func what(n *browse.Node) string {
	switch n.Class {
	case "object":
		return ""
	case "method":
		return "method"
	}
	out := n.DataType
	if n.Array {
		out += "[]"
	}
	switch {
	case n.Value != nil:
		out += "  " + valueText(n.Value, n.Unit) + unwell(n.Value)
	case n.Unit != "":
		out += "  [" + n.Unit + "]"
	}
	if n.Access != "" && n.Access != "r" {
		out += "  " + map[string]string{"rw": "writable", "w": "write only", "-": "no access"}[n.Access]
	}
	return out
}

// maxWatched is how many variables --watch looks at: what a server reads in one
// call without effort.
const maxWatched = 1000

// variables are those to watch; all: there are no more.
func (t *tree) variables() (list []*browse.Node, all bool) {
	for i := range t.nodes {
		n := &t.nodes[i]
		if n.Class != "variable" || !n.Picked || n.Type == propertyType {
			continue
		}
		if len(list) == maxWatched {
			return list, false
		}
		list = append(list, n)
	}
	return list, true
}

// watch prints values as they change. The text of the walk goes before.
func (c *browseCmd) watch(ctx context.Context, s opcua.Caller, p *answer.Printer, t *tree, got *browsed, text string) error {
	list, all := t.variables()
	if !all {
		text += fmt.Sprintf("only the first %d variables are watched: narrow it down with --node or --filter\n", maxWatched)
	}
	out := p.Out
	if p.JSON {
		out = io.Discard
	}
	if _, err := io.WriteString(out, text); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	poll, err := browse.NewPoller(ctx, s, list)
	if err != nil {
		return err
	}
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.For, context.Canceled)
		defer cancel()
	}
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for {
		changes, err := poll.Look(ctx)
		if err != nil {
			return err
		}
		for _, x := range changes {
			got.Changes++
			if _, err := fmt.Fprintf(out, "%s  %s = %s%s\n", time.Now().Format("15:04:05.000"), t.path(x.Node), valueText(&x.Value, x.Node.Unit), unwell(&x.Value)); err != nil {
				return fmt.Errorf("write the result: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
