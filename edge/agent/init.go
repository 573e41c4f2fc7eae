package agent

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"plantmesh/proto/enroll"
	"plantmesh/proto/strict"
)

// ErrConfigThere is returned where an edge.yaml stands already.
var ErrConfigThere = errors.New("it is there already")

// Initial is what an edge.yaml says that is written. What is empty stays empty in it, for
// enroll to fill in.
type Initial struct {
	Agent, Site, Data string
	Hub               string // nats://host:port, or wss://host
	Enroll            string // https://hub.example.com
	Proxy             string // on the way to both, as http://user@proxy.example:3128
	ProxyPasswordFile string // that user's, as the file has it
	Key, Token        string // as the file has them
	Template          string // the text of an edge.yaml in place of our own; empty: ours
}

// Like makes an edge.yaml as a template has it: what it says holds, what stands there without
// a value is filled in, and its comments stay. file is where it was read.
func (i Initial) Like(file string, template []byte) (Initial, error) {
	var c Config
	doc, err := strict.Parse(file, template, &c)
	if err != nil {
		return i, err
	}
	for _, f := range []struct{ key, said, asked string }{{"agent", c.Agent, i.Agent}, {"site", c.Site, i.Site}, {"hub.url", c.Hub.URL, i.Hub}, {"data", c.Data, i.Data}} {
		if f.said != "" && f.asked != "" && f.said != f.asked {
			return i, doc.Fault("$."+f.key, "it says %q, and %q is asked for: leave it empty there", f.said, f.asked)
		}
	}
	if i.Agent == "" && c.Agent == "" {
		i.Agent = HostAgent()
	}
	text := filledIn(string(template), i)
	if i.Data != "" && c.Data == "" {
		text = regexp.MustCompile(`(?m)^data:[ \t]*`).ReplaceAllStringFunc(text, func(string) string { return fmt.Sprintf("data: %q ", i.Data) })
	}
	var filled Config
	if _, err := strict.Parse(file, []byte(text), &filled); err != nil {
		return i, err
	}
	for _, f := range []struct{ key, is, asked string }{{"agent", filled.Agent, i.Agent}, {"site", filled.Site, i.Site}, {"url", filled.Hub.URL, i.Hub}, {"data", filled.Data, i.Data}} {
		if f.asked != "" && f.is != f.asked {
			return i, doc.Fault("$", "it has no line for %s, which is asked for: write one without a value", f.key)
		}
	}
	i.Agent, i.Template = filled.Agent, text
	return i, nil
}

// HostAgent is the name of an agent made of this machine's; empty: it has none that fits.
func HostAgent() string {
	host, _ := os.Hostname() // a machine without a name has to be given one
	name := strings.Trim(regexp.MustCompile(`[^a-z0-9_-]+`).ReplaceAllString(strings.ToLower(host), "-"), "-_")
	if !enroll.Name(name) {
		return ""
	}
	return name
}

// YAML is the file.
func (i Initial) YAML() string {
	if i.Template != "" {
		return i.Template
	}
	var b strings.Builder
	b.WriteString("# The agent on this gateway. Its machines stand in sources.d/*.yaml beside this file, its\n# quality rules in rules.d/*.yaml. Paths count from this folder. Every key: plantmesh-edge config schema.\n")
	if i.Agent == "" || i.Site == "" || i.Hub == "" {
		b.WriteString("# What is empty here is filled in when a hub lets this gateway in:\n#   plantmesh-edge enroll --config edge.yaml https://hub.example.com\n")
	}
	line := func(key, value, says string) {
		if value != "" && !enroll.Name(value) {
			value = fmt.Sprintf("%q", value)
		}
		text := strings.TrimRight(key+": "+value, " ")
		fmt.Fprintf(&b, "%-27s # %s\n", text, says) // a comment needs a space before it, however long the text
	}
	line("agent", i.Agent, "this gateway's name at the hub: lower case letters, digits, - and _")
	line("site", i.Site, "the site of the hub")
	line("data", cmp.Or(i.Data, "data"), "the buffer; it must survive power loss")
	b.WriteString("hub:\n")
	line("  url", i.Hub, "nats://host:port, or wss://host where nothing but HTTPS is let out")
	if i.Enroll != "" {
		line("  enroll", i.Enroll, "where another token is asked for, once one has ended")
	}
	if i.Proxy != "" {
		line("  proxy", i.Proxy, "through which both are called")
	}
	if i.ProxyPasswordFile != "" {
		line("  proxy_password_file", i.ProxyPasswordFile, "of its user, and nothing else in it")
	}
	line("  key", cmp.Or(i.Key, "agent.nk"), "never leaves this gateway")
	line("  token", cmp.Or(i.Token, "agent.jwt"), "the agent renews it")
	b.WriteString("buffer:\n")
	line("  max_bytes", "4GiB", "what may wait here while the hub is away")
	b.WriteString("window:\n")
	line("  profile", "latency", "a batch is synced each second; flash: each 4 s, which wears the disk less")
	b.WriteString("# page: {listen: 127.0.0.1:8088}   # a page for a browser on this gateway; plantmesh-edge ui opens it\n")
	return b.String()
}

// Write makes the file at path, and the folders beside it. With over a file that is there
// is replaced, and kept as path.old; keys and tokens are never touched.
func (i Initial) Write(path string, over bool) error {
	base := filepath.Dir(path)
	for _, dir := range []string{base, filepath.Join(base, "sources.d"), filepath.Join(base, "rules.d")} {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as a package has them: the service's user reads what root writes
			return &strict.Fault{File: dir, What: "can't be made: " + err.Error()}
		}
	}
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := replace(path, []byte(i.YAML())); err != nil {
			return err
		}
		return os.Chmod(path, 0o644) //nolint:gosec // as a package has it: the service's user reads it, and it holds no secret
	case err != nil:
		return &strict.Fault{File: path, What: strict.Unreadable(err)}
	case !over:
		return fmt.Errorf("%w: %s; --force writes over it, and keeps it as edge.yaml.old", ErrConfigThere, path)
	}
	if err := replace(path+".old", old); err != nil {
		return err
	}
	return replaceLike(path, []byte(i.YAML()))
}

// replaceLike writes a file anew, whole or not at all, for whom it was for.
func replaceLike(path string, content []byte) error {
	beside := path + ".new"
	if err := replace(beside, content); err != nil {
		return err
	}
	err := likeFile(beside, path)
	if err == nil {
		err = os.Rename(beside, path)
	}
	if err != nil {
		return errors.Join(&strict.Fault{File: path, What: "can't be written: " + err.Error()}, os.Remove(beside))
	}
	return nil
}

// filledIn is an edge.yaml in which keys that stand there without a value have one now.
// Nothing else of it changes, comments neither. page is hub.enroll, which is put beside
// hub.url where there is none, as the proxy is.
func filledIn(text string, by Initial) string {
	set := func(text, key, value string) string {
		if value == "" {
			return text
		}
		if !enroll.Name(value) {
			value = fmt.Sprintf("%q", value)
		}
		return regexp.MustCompile(`(?m)^(`+key+`:)[ \t]*(#.*)?$`).ReplaceAllStringFunc(text, func(line string) string {
			head, comment, commented := strings.Cut(line, "#")
			out := strings.TrimRight(head, " \t") + " " + value
			if commented {
				out = fmt.Sprintf("%-*s#%s", max(len(head), len(out)+1), out, comment)
			}
			return out
		})
	}
	beside := func(text, key, value string) string {
		if value == "" || regexp.MustCompile(`(?m)^  `+key+`:`).MatchString(text) {
			return text
		}
		return regexp.MustCompile(`(?m)^  url:.*$`).ReplaceAllStringFunc(text, func(line string) string {
			return line + fmt.Sprintf("\n  %s: %q", key, value)
		})
	}
	text = set(set(text, "agent", by.Agent), "site", by.Site)
	before := text
	if text = set(text, "  url", by.Hub); text != before {
		text = beside(text, "enroll", by.Enroll)
	}
	return beside(beside(text, "proxy_password_file", by.ProxyPasswordFile), "proxy", by.Proxy)
}
