package source

import (
	"bytes"
	"io"
	"strings"
)

const (
	maxLastLine = 512     // of a line that is looked at
	maxDump     = 8 << 10 // of a dump that is passed on: the first goroutines
)

// lastWords passes on what a worker writes to standard error, and keeps what it
// dies of: the first line of Go's dump, and the function it was in. Of the dump
// itself only the beginning is passed on. It is used by one goroutine, and read
// when that has ended.
type lastWords struct {
	to   io.Writer
	line []byte // as far as it came

	cause   string
	inside  bool // the lines of a goroutine that runs come
	place   string
	dumped  int
	cutting bool
}

// Write implements io.Writer. What can't be passed on is lost: a worker must not
// stop for that.
func (l *lastWords) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		at := bytes.IndexByte(rest, '\n')
		piece := rest
		if at >= 0 {
			piece = rest[:at]
		}
		l.line = append(l.line, piece[:min(len(piece), maxLastLine-len(l.line))]...)
		if at < 0 {
			break
		}
		l.look(string(l.line))
		l.line, rest = l.line[:0], rest[at+1:]
	}
	l.pass(p)
	return len(p), nil
}

func (l *lastWords) pass(p []byte) {
	if l.cause != "" {
		p = p[:min(len(p), max(0, maxDump-l.dumped))]
		l.dumped += len(p)
	}
	_, _ = l.to.Write(p) // see Write
	if l.dumped >= maxDump && !l.cutting {
		l.cutting = true
		_, _ = io.WriteString(l.to, "\n… the rest of the worker's dump is left out\n")
	}
}

// look reads one line.
func (l *lastWords) look(line string) {
	switch {
	case l.cause == "":
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			l.cause = line
		}
	case l.place != "":
	case strings.HasPrefix(line, "goroutine ") && (strings.Contains(line, "[running") || strings.Contains(line, "[copystack")):
		l.inside = true
	case l.inside && line != "" && line[0] != '\t':
		name := line
		if at := strings.LastIndexByte(line, '('); at > 0 {
			name = line[:at]
		}
		if !strings.HasPrefix(name, "runtime.") && !strings.HasPrefix(name, "panic") && !strings.HasPrefix(name, "reflect.") && !strings.HasPrefix(name, "...") {
			l.place = name
		}
	case line == "":
		l.inside = false
	}
}

// said is what the worker died of; empty where it wrote nothing of that kind.
func (l *lastWords) said() string {
	if l.cause == "" || l.place == "" {
		return l.cause
	}
	return l.cause + " in " + l.place
}
