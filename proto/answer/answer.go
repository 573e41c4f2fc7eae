// Package answer is how the three programs answer whoever called them: the
// result on stdout, narration on stderr, one line for an error with its slug,
// one Next: line where something remains to be done, and with --json one
// envelope instead.
package answer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"plantmesh/proto/strict"
)

// Printer prints the answer of one command. Not safe for concurrent use.
type Printer struct {
	Program string
	Command string // its words; empty before they are known
	JSON    bool
	Quiet   bool // of narration nothing is said: errors alone stand on Err
	Verbose bool // each step is said
	Out     io.Writer
	Err     io.Writer

	printed bool
}

// Narration is where a command says what it does, what it noticed and what it waits for.
func (p *Printer) Narration() io.Writer {
	if p.Quiet {
		return io.Discard
	}
	return p.Err
}

// envelope is one document of --json.
type envelope struct {
	OK     bool   `json:"ok"`
	Schema string `json:"schema"`
	Data   any    `json:"data,omitempty"`
	Error  *Error `json:"error,omitempty"`
}

// Say says something on the way, with its line feeds.
func (p *Printer) Say(format string, args ...any) {
	_, _ = fmt.Fprintf(p.Narration(), format, args...) // narration may get lost
}

// Ask says a question to whoever sits there, however quiet it is to be.
func (p *Printer) Ask(format string, args ...any) {
	_, _ = fmt.Fprintf(p.Err, format, args...) // the answer is awaited all the same
}

// Result is what a command found. Every field may be left out.
type Result struct {
	Data any    // for --json
	Text string // for people and pipes, with its line feeds
	Next string // the command that comes next
}

// Print prints r.
func (p *Printer) Print(r Result) error {
	p.printed = true
	if p.JSON {
		if r.Data == nil {
			r.Data = struct{}{}
		}
		return p.write(envelope{OK: true, Data: r.Data})
	}
	if _, err := io.WriteString(p.Out, r.Text); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	p.next(r.Next)
	return nil
}

// Done ends a command that went well. One that had no result, because it ran
// until it was asked to end, still owes --json its envelope.
func (p *Printer) Done() error {
	if p.JSON && !p.printed {
		return p.Print(Result{})
	}
	return nil
}

// Fail prints err, which rules give a slug, and returns its exit code.
func (p *Printer) Fail(err error, rules []Rule) int {
	e := *of(err, rules)
	e.Doc = e.Code.doc()
	line := e.Message
	if e.Hint != "" {
		line += "; " + e.Hint
	}
	if p.JSON {
		e.Hint = cmp.Or(e.Hint, e.Code.entry().Helps)
		_ = p.write(envelope{Data: e.Data, Error: &e}) // nowhere else to tell but the line below
	}
	_, _ = fmt.Fprintf(p.Err, "%s: %s [%s]\n", p.Program, line, e.Code)
	if !p.JSON {
		p.next(e.Fix)
	}
	return e.Code.Exit()
}

func (p *Printer) next(command string) {
	if command != "" {
		p.Say("Next:  %s\n", command)
	}
}

func (p *Printer) write(e envelope) error {
	words := strings.Fields(p.Command)
	if len(words) == 0 {
		words = []string{"usage"}
	}
	e.Schema = p.Program + "/" + strings.Join(words, "-") + "/v1"
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // a terminal is no web page
	if err := enc.Encode(e); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if _, err := p.Out.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// Error is an error for people and scripts. It may be returned by whoever
// knows more than a Rule can.
type Error struct {
	Code    Code     `json:"code"`
	Message string   `json:"message"`         // what, in one line
	Hint    string   `json:"hint,omitempty"`  // what was probably meant, or what helps; without one --json says what helps in general
	Fix     string   `json:"fix,omitempty"`   // the command that helps
	Doc     string   `json:"doc,omitempty"`   // where its slug is explained; Fail writes it
	Cause   []string `json:"cause,omitempty"` // where several things went wrong, each

	Data any `json:"-"` // what was found all the same: data of the envelope
}

func (e *Error) Error() string { return e.Message }

// Misused is an error of a command line.
func Misused(err error, program string) *Error {
	message, _ := oneLine(err)
	if flag, _, ended := strings.Cut(message, ` value but got "EOL"`); ended { // as the library says it
		flag, _, _ = strings.Cut(flag, ":")
		message = flag + " wants a value behind it"
	}
	return &Error{Code: Usage, Message: message, Hint: program + " --help lists the commands"}
}

// Rule gives errors that wrap Is a slug and, where one helps, a command.
type Rule struct {
	Is   error
	Code Code
	Fix  string
}

// of is err as an Error: its own, else a fault in a file, else by the first
// rule that fits.
func of(err error, rules []Rule) *Error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	if f, ok := errors.AsType[*strict.Fault](err); ok {
		return fault(f)
	}
	e := &Error{Code: Internal}
	e.Message, e.Cause = oneLine(err)
	for _, r := range rules {
		if errors.Is(err, r.Is) {
			e.Code, e.Fix = r.Code, r.Fix
			break
		}
	}
	return e
}

// Of is err as an answer: its own, or that of a fault in a file.
func Of(err error) *Error { return of(err, nil) }

func fault(f *strict.Fault) *Error {
	e := &Error{Code: Config, Hint: f.Hint()}
	if len(f.Allowed) > 0 {
		e.Code = UnknownKey
	}
	bare := *f
	bare.Nearest, bare.Allowed = "", nil
	e.Message = strings.ReplaceAll(bare.Error(), "\n", "; ")
	return e
}

// oneLine is an error in one line; joined errors stand beside it one by one.
func oneLine(err error) (message string, cause []string) {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	if len(lines) > 1 {
		cause = lines
	}
	return strings.Join(lines, "; "), cause
}

// Command is a command line as a shell takes it.
func Command(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if quoted[i] = w; w == "" || strings.ContainsAny(w, " \t\n\"'\\$`&|;<>()*?[]#~!") {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// Version is which build this is.
type Version struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}

// Build reads the version that the compiler wrote into the program.
func Build() Version {
	v := Version{Version: "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Version, v.Go = info.Main.Version, info.GoVersion
	}
	return v
}

// Result is the version as a command's result.
func (v Version) Result(program string) Result {
	return Result{Data: v, Text: program + " " + v.Version + "\n"}
}
