package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"plantmesh/edge/check"
	"plantmesh/proto/answer"
)

// Bounds of a bundle.
const (
	mostFile   = 1 << 20 // of a configuration's file
	mostFiles  = 500
	mostLog    = 8 << 20
	logWithin  = 20 * time.Second
	logService = "plantmesh-edge"
)

// Piece is one file of a bundle.
type Piece struct {
	Name    string
	Content []byte
}

// Bundle is what somebody who helps from afar needs to know of a gateway: what its checks
// find, how its agent is, its configuration, its log of a day. No value of a signal is in
// it, no key, no token and no password: those stand in files of their own, which are not
// taken, and what looks like one in a file is taken out.
func Bundle(ctx context.Context, path string) ([]Piece, error) {
	up := NewCheckup(ctx, path, nil)
	up.discreet = true
	report, err := check.Run(ctx, up.All(ctx), check.Selection{})
	if err != nil {
		return nil, err
	}
	out := []Piece{{"READ-ME.txt", []byte(bundled)}}
	for _, x := range []struct {
		name string
		v    any
	}{{"version.json", answer.Build()}, {"check.json", report}, {"status.json", up.discreetStatus()}} {
		b, err := json.MarshalIndent(x.v, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", x.name, err)
		}
		out = append(out, Piece{x.name, append(b, '\n')})
	}
	config, err := configured(path)
	if err != nil {
		return nil, err
	}
	config = append(config, up.ofRevision()...)
	return append(append(out, config...), Piece{"log.txt", journal(ctx)}), nil
}

const bundled = `What plantmesh-edge support-bundle has gathered for somebody who helps:

version.json  which build this is
check.json    what plantmesh-edge check finds
status.json   what the running agent says of itself
config/       edge.yaml, sources.d and rules.d, and those of the hub; what looks like a secret is taken out
log.txt       the service's log of the last 24 hours

Not in it: values of signals, the buffer, keys, tokens, passwords. Names of machines,
signals and hosts are: look through it before you send it.
`

// discreetStatus is the running agent's status without what devices said.
func (c *Checkup) discreetStatus() any {
	if c.fault != nil || c.cfg.Data == "" {
		return map[string]string{"none": "where the agent's socket is says edge.yaml, which can't be read"}
	}
	s, err := c.running()
	if err != nil {
		return map[string]string{"none": err.Error()}
	}
	for i := range s.Sources {
		for cause, v := range s.Sources[i].Voids {
			v.Latest = "" // it quotes bytes of what came
			s.Sources[i].Voids[cause] = v
		}
	}
	return s
}

// configured are the files of a configuration, without secrets.
func configured(path string) (out []Piece, err error) {
	base := filepath.Dir(path)
	files := []string{path}
	for _, dir := range []string{"sources.d", "rules.d"} {
		found, err := filepath.Glob(filepath.Join(base, dir, "*.y*ml"))
		if err != nil {
			return nil, fmt.Errorf("look for files of %s: %w", dir, err)
		}
		files = append(files, found...)
	}
	for _, file := range files[:min(len(files), mostFiles)] {
		name := "config/" + filepath.Base(file)
		if file != path {
			name = "config/" + filepath.Base(filepath.Dir(file)) + "/" + filepath.Base(file)
		}
		b, err := begins(file)
		if err != nil {
			b = []byte("# can't be read: " + bare(err).Error() + "\n")
		}
		out = append(out, Piece{name, redacted(b)})
	}
	return out, nil
}

// ofRevision are the files of the hub's configuration, without secrets.
func (c *Checkup) ofRevision() (out []Piece) {
	if c.fault != nil || c.cfg.applied.IsZero() {
		return nil
	}
	files, err := c.cfg.ConfigFiles(true)
	if err != nil {
		return nil // as the checks say
	}
	for _, f := range files {
		if f.revision > 0 {
			out = append(out, Piece{fmt.Sprintf("config/revision-%d/%s", f.revision, f.Name), []byte(f.Text + "\n")})
		}
	}
	return out
}

// begins is a file's beginning.
func begins(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, mostFile))
	return b, errors.Join(err, f.Close())
}

// redacted is a text without what looks like a secret: the value of a key that is called
// so, a login in a URL, a key or token of NATS.
func redacted(b []byte) []byte {
	const gone = "(taken out)"
	keys := regexp.MustCompile(`(?im)([\w-]*(?:password|passwd|passphrase|secret|credential|api_?key|seed)s?"?[ \t]*[:=][ \t]*)("[^"\n]*"|'[^'\n]*'|[^\s,}#][^,}\n]*)`)
	b = keys.ReplaceAll(b, []byte("${1}"+gone))
	b = regexp.MustCompile(`(?im)(\bproxy"?[ \t]*[:=][ \t]*)[^\n]*@`).ReplaceAll(b, []byte("${1}"+gone+"@")) // also one that is no URL
	b = regexp.MustCompile(`://[^/\s]*@`).ReplaceAll(b, []byte("://"+gone+"@"))                              // to the last @: passwords have some, too
	b = regexp.MustCompile(`\bS[UAONCX][A-Z2-7]{56}\b`).ReplaceAll(b, []byte(gone))
	b = regexp.MustCompile(`\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}`).ReplaceAll(b, []byte(gone))
	return regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`).ReplaceAll(b, []byte(gone))
}

// journal is the service's log of a day; where there is none it says so.
func journal(ctx context.Context) []byte {
	ctx, cancel := context.WithTimeout(ctx, logWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "journalctl", "--unit", logService, "--since", "-24h", "--output", "short-iso", "--no-pager", "--quiet")
	cmd.WaitDelay = time.Second
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return []byte("the log can't be read: " + err.Error() + "\n")
	}
	if err := cmd.Start(); err != nil {
		return []byte("there is no journal here: " + err.Error() + "\n")
	}
	b, read := io.ReadAll(io.LimitReader(pipe, mostLog))
	cancel() // of a log that is longer the beginning is enough
	_ = cmd.Wait()
	if len(b) == 0 {
		return []byte(strings.TrimSpace(fmt.Sprintf("the journal has nothing of %s %s", logService, errorText(read))) + "\n")
	}
	// What could not be read is quoted there.
	b = regexp.MustCompile(`\b(first|payload|value)=("(?:[^"\\]|\\.)*"|\S+)`).ReplaceAll(b, []byte("${1}=(taken out)"))
	return redacted(b)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return "(" + err.Error() + ")"
}

// Contents are the files of a bundle with their sizes, for who looks before it is sent.
func Contents(pieces []Piece) string {
	var b strings.Builder
	for _, p := range pieces {
		fmt.Fprintf(&b, "%9s  %s\n", size(int64(len(p.Content))), p.Name)
	}
	return b.String()
}
