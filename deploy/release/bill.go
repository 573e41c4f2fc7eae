package release

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// A bill of materials in CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/: what
// the compiler wrote into the program, and nothing that is only in go.mod. Which
// module needs which is not known there, so the program is said to need them all.

type document struct {
	Schema       string       `json:"$schema"`
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	Hashes     []hash     `json:"hashes,omitempty"`
	PURL       string     `json:"purl,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Alg     string `json:"alg"`
	Content string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// bill is the bill of materials of a program.
func (b built) bill(name string) ([]byte, error) {
	d := document{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", Spec: "1.6", Version: 1,
		Metadata: metadata{
			Timestamp: b.time.UTC().Format(time.RFC3339),
			Component: component{Type: "application", Ref: name, Name: name, Version: b.version(), Hashes: []hash{{"SHA-256", b.sum}}},
		},
	}
	for _, s := range b.info.Settings {
		if strings.HasPrefix(s.Key, "GO") || strings.HasPrefix(s.Key, "vcs.") || s.Key == "CGO_ENABLED" {
			d.Metadata.Component.Properties = append(d.Metadata.Component.Properties, property{"go:build:" + s.Key, s.Value})
		}
	}
	// package-url/purl-spec: the standard library has no module of its own, scanners know it by this name.
	d.add("golang", module{Name: "std", Version: strings.TrimPrefix(b.info.GoVersion, "go")})
	for _, m := range b.info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		d.add("golang", module{m.Path, m.Version, m.Sum})
	}
	for _, m := range b.page {
		d.add("npm", m)
	}
	root, needs := dependency{Ref: name}, []dependency(nil)
	for _, c := range d.Components {
		root.DependsOn = append(root.DependsOn, c.Ref)
		needs = append(needs, dependency{Ref: c.Ref})
	}
	d.Dependencies = append([]dependency{root}, needs...)
	out, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the bill of materials: %w", err)
	}
	return append(out, '\n'), nil
}

// module is something that others made.
type module struct {
	Name, Version string
	Sum           string // as its own world writes it: go.sum, or integrity of package-lock.json
}

func (d *document) add(world string, m module) {
	// purl-spec: a package's name keeps its slashes, @ before a scope is escaped.
	purl := "pkg:" + world + "/" + strings.ReplaceAll(m.Name, "@", "%40") + "@" + strings.ReplaceAll(m.Version, "+", "%2B")
	c := component{Type: "library", Ref: purl, Name: m.Name, Version: m.Version, PURL: purl}
	if m.Sum != "" {
		c.Properties = []property{{world + ":sum", m.Sum}}
	}
	d.Components = append(d.Components, c)
}

// pageModules are what the bundler puts into the console's page: its own imports, and
// those of svelte's client. The compiler and its modules stay outside.
func pageModules() []string { return []string{"clsx", "esm-env", "svelte", "uplot"} }

// modules are their versions, which package-lock.json pins.
func modules(lock string) (out []module, err error) {
	b, err := os.ReadFile(lock)
	if err != nil {
		return nil, err
	}
	var file struct {
		Packages map[string]struct {
			Version   string `json:"version"`
			Integrity string `json:"integrity"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, fmt.Errorf("read %s: %w", lock, err)
	}
	for _, name := range pageModules() {
		p, ok := file.Packages["node_modules/"+name]
		if !ok {
			return nil, fmt.Errorf("%s does not name %s, which the page is made of", lock, name)
		}
		out = append(out, module{name, p.Version, p.Integrity})
	}
	return out, nil
}
