package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"plantmesh/proto/answer"
)

// packaged is the folder in which a package has the configuration.
const packaged = "/etc/plantmesh"

// globals are the flags that every command takes.
type globals struct {
	JSON    bool          `name:"json" help:"The answer as one JSON document on stdout; a command that runs on gives it at its end."`
	Quiet   bool          `short:"q" xor:"says" help:"Of what is done, noticed and to be done next nothing is said: only results and errors."`
	Verbose bool          `short:"v" xor:"says" help:"Say each step on stderr."`
	Timeout time.Duration `placeholder:"10s" help:"How long it may take; what is not done by then ends with 8. Default: as long as it needs."`
}

// bounds is ctx for a command, which --timeout may end. A check bounds itself, as what it
// has found by then is worth having.
func (g *globals) bounds(ctx context.Context, command string) (context.Context, context.CancelFunc, error) {
	switch {
	case g.Timeout == 0, command == "check":
		return ctx, func() {}, nil
	case g.Timeout < 0:
		return nil, nil, &answer.Error{Code: answer.Usage, Message: "--timeout is not negative"}
	case command == "run":
		return nil, nil, &answer.Error{Code: answer.Usage, Message: "run goes on until it is ended: there is no --timeout for it"}
	}
	within, cancel := context.WithTimeout(ctx, g.Timeout)
	return within, cancel, nil
}

// endsWithin is how long a command may take to end once it should: to take back what it began.
const endsWithin = 5 * time.Second

// ended runs a command, and leaves one alone that does not end when it should: a read of a
// terminal, of a pipe or of a share whose server is gone knows no end.
func ended(within context.Context, command string, run func(...any) error) error {
	done := make(chan error, 1)
	go func() { done <- run() }()
	select {
	case err := <-done:
		return err
	case <-within.Done():
	}
	if command == "run" || command == "worker" { // what they hold is to be closed in order
		return <-done
	}
	select {
	case err := <-done:
		return err
	case <-time.After(endsWithin):
		return within.Err()
	}
}

// late is the error of a command that --timeout has ended; else it is err.
func (g *globals) late(within context.Context, err error) error {
	end, bounded := within.Deadline()
	if err == nil || !bounded || time.Now().Before(end) { // what it called may know before within does
		return err
	}
	return &answer.Error{
		Code: answer.Waited, Message: fmt.Sprintf("it was not done within %s: %v", g.Timeout, err),
		Hint: "say the same command again, with a longer --timeout or none; nothing is left half done",
	}
}

// steps is where what a command does is told step by step, which --verbose asks for.
func steps(p *answer.Printer) *slog.Logger {
	if !p.Verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(p.Err, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// configured gives --config, where it isn't said, the file of the package in the folder etc:
// to who needs one where a package is installed, and to who may have one where it is there.
func configured(etc string) kong.Resolver {
	file := filepath.Join(etc, "edge.yaml")
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if flag.Name != "config" {
			return nil, nil //nolint:nilnil // as the library has it: nothing is known of that flag
		}
		look := file
		if flag.Required {
			look = etc
		}
		if _, err := os.Stat(look); err != nil {
			return nil, nil //nolint:nilnil,nilerr // it has to be said, or isn't needed
		}
		return file, nil
	})
}

// configOf is what --config of a command is; empty: nothing, or there is no such flag.
func configOf(k *kong.Context) string {
	for _, f := range k.Flags() {
		if f.Name == "config" {
			return f.Target.String()
		}
	}
	return ""
}

// runsOn says whether a command goes on until somebody ends it.
func runsOn(command string) bool {
	first, _, _ := strings.Cut(strings.TrimSpace(command), " ")
	return slices.Contains([]string{"run", "worker", "tap"}, first)
}
