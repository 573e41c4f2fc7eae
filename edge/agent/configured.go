package agent

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	revisions "plantmesh/edge/revision"
	"plantmesh/edge/status"
	"plantmesh/proto/revision"
	"plantmesh/proto/strict"
)

// ConfigFile is a file of this gateway's configuration, and where it comes from.
type ConfigFile struct {
	Name     string `json:"file"` // as sources.d/press.yaml
	Path     string `json:"path"`
	Origin   string `json:"origin"`           // local, or revision N
	Shadows  bool   `json:"shadows"`          // a local one that goes before the revision's, which has another content
	Unread   string `json:"unread,omitempty"` // why it can't be read
	Text     string `json:"text,omitempty"`   // without what looks like a secret
	revision uint64
}

const local = "local"

// ConfigFiles are those that are in force, with the current revision of the hub; contents
// say whether with their texts.
func (c *Config) ConfigFiles(contents bool) (out []ConfigFile, err error) {
	out = []ConfigFile{{Name: filepath.Base(c.path), Path: c.path, Origin: local}}
	for _, folder := range []string{revision.SourcesFolder, revision.RulesFolder} {
		files, drift, err := c.files(folder, c.applied)
		if err != nil {
			return nil, err
		}
		shadows := map[string]bool{}
		for _, name := range drift {
			shadows[name] = true
		}
		for _, f := range files {
			from := local
			if f.revision > 0 {
				from = revision.Ref{Number: f.revision}.String()
			}
			out = append(out, ConfigFile{Name: f.name, Path: f.path, Origin: from, Shadows: shadows[f.name], revision: f.revision})
		}
	}
	if !contents {
		return out, nil
	}
	for i := range out {
		b, err := begins(out[i].Path)
		if err != nil {
			out[i].Unread = strict.Unreadable(err)
		}
		out[i].Text = string(redacted(b))
	}
	return out, nil
}

// Values are the keys of edge.yaml as they hold: what the file says, what the environment lays
// over it, and the defaults.
func (c *Config) Values() []strict.Value {
	is := *c
	_ = is.Window.Validate() // which fills its defaults in; what is wrong with it is told
	out := c.doc.Values(&is)
	for i := range out {
		if out[i].Key == "buffer.min_free" && out[i].Text == "" {
			out[i].Text = "5 % of the disk, at most 1GiB"
		}
		_, out[i].Text, _ = strings.Cut(string(redacted([]byte(out[i].Key+": "+out[i].Text))), ": ") // some keys say what is a secret
	}
	return out
}

// Faults are all that is wrong with the configuration, in the order of its parts.
func (c *Config) Faults() (out []error) {
	for _, f := range c.faults {
		out = append(out, f.err)
	}
	return out
}

// ConfigHistory is what is known of the hub's configurations on this gateway, whether an
// agent runs or not.
type ConfigHistory struct {
	revision.Reported

	Good   []revision.Ref    `json:"good"` // confirmed, the newest first
	Events []revisions.Event `json:"events"`
}

// ConfigHistory reads it. An agent that runs knows more of a trial.
func (c *Config) ConfigHistory(now time.Time) (h ConfigHistory, err error) {
	if c.unread != nil {
		return h, &strict.Fault{File: filepath.Join(c.Data, revisionsFolder), What: strict.Unreadable(c.unread)}
	}
	h = ConfigHistory{
		Reported: c.state.Says(c.revisions().Hold(), c.drift, "", now),
		Good:     append([]revision.Ref{}, c.state.Good...), Events: append([]revisions.Event{}, c.state.History...),
	}
	return h, nil
}

// ConfigDiff is what the newest revision that the hub has sent would change of what is in
// force here, without what looks like a secret. of is that revision; zero: there is none.
func (c *Config) ConfigDiff() (of revision.Ref, out []revision.Change, err error) {
	if c.unread != nil {
		return of, nil, &strict.Fault{File: filepath.Join(c.Data, revisionsFolder), What: strict.Unreadable(c.unread)}
	}
	of = c.state.Desired
	if of.IsZero() {
		return of, nil, nil
	}
	wanted, err := c.revisions().Files(of)
	if err != nil {
		return of, nil, &strict.Fault{File: c.revisions().Folder(of), What: err.Error()}
	}
	is := revision.Files{}
	for _, folder := range []string{revision.SourcesFolder, revision.RulesFolder} {
		files, _, err := c.files(folder, c.applied)
		if err != nil {
			return of, nil, err
		}
		for _, f := range files {
			if _, asked := wanted[f.name]; f.revision == 0 && !asked {
				continue // the gateway's own, which no revision takes away
			}
			b, err := os.ReadFile(f.path)
			if err != nil {
				return of, nil, &strict.Fault{File: f.path, What: strict.Unreadable(err)}
			}
			is[f.name] = string(redacted(b))
		}
	}
	for name, text := range wanted {
		wanted[name] = string(redacted([]byte(text)))
	}
	return of, revision.Diff(is, wanted), nil
}

// Command has the running agent hold, release, roll back or confirm what the hub wants.
func Command(ctx context.Context, cfg Config, what string, q url.Values) (revision.Reported, error) {
	if _, err := Status(ctx, cfg); err != nil {
		return revision.Reported{}, err
	}
	r, err := status.Command(ctx, cfg.Status, what, q)
	if err != nil {
		return r, fmt.Errorf("%s: %w", what, err)
	}
	return r, nil
}
