package strict

import (
	"testing"
	"time"
)

type sample struct {
	Site   string `yaml:"site"`
	Buffer struct {
		MaxBytes Size     `yaml:"max_bytes"`
		Window   Duration `yaml:"window"`
	} `yaml:"buffer"`
	Sources []struct {
		Endpoint string `yaml:"endpoint"`
		Queue    int    `yaml:"queue"`
	} `yaml:"sources"`
}

// Sample is exported: a struct can be inlined only so.
type Sample = sample

// outer has the keys of sample among its own.
type outer struct {
	Sample `yaml:",inline"`

	ID string `yaml:"id"`
}

func TestParse_AnInlinedStructHasItsKeysAmongTheOthers(t *testing.T) {
	for src, want := range map[string]string{
		"id: a\nsite: b\nbuffer:\n  max_byte: 4GiB\n": `x.yaml:4: unknown key "max_byte"; did you mean "max_bytes"?`,
		"id: a\nsites: b\n":                           `x.yaml:2: unknown key "sites"; did you mean "site"?`,
		"id: a\nbuffer:\n  max_bytes: 4GB\n":          `x.yaml:3: "4GB" is no size: write a whole number with KiB, MiB or GiB, such as 64MiB`,
		"zzzzzz: a\n":                                 `x.yaml:1: unknown key "zzzzzz"; allowed here: buffer, id, site, sources`,
		"id: a\nsite: b\nbuffer: {max_bytes: 1KiB}\n": "",
	} {
		var v outer
		_, err := Parse("x.yaml", []byte(src), &v)
		if err == nil && want == "" {
			if v.ID != "a" || v.Site != "b" || v.Buffer.MaxBytes != 1<<10 {
				t.Errorf("%q was read as %+v", src, v)
			}
			continue
		}
		if err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", src, err, want)
		}
	}
}

func TestParse_NamesTheFault(t *testing.T) {
	for name, c := range map[string]struct{ src, want string }{
		"unknown key":      {"site: a\nbuffer:\n  max_byte: 4GiB\n", `x.yaml:3: unknown key "max_byte"; did you mean "max_bytes"?`},
		"unknown, far off": {"zzzzzz: a\n", `x.yaml:1: unknown key "zzzzzz"; allowed here: buffer, site, sources`},
		"of another level": {"site: a\nmax_bytes: 4GiB\n", `x.yaml:2: unknown key "max_bytes"; allowed here: buffer, site, sources`},
		"in a list":        {"sources:\n  - endpoint: a\n  - {endpoint: b, zzzzzz: 1}\n", `x.yaml:3: unknown key "zzzzzz"; allowed here: endpoint, queue`},
		"wrong unit":       {"site: a\nbuffer:\n  max_bytes: 4GB\n", `x.yaml:3: "4GB" is no size: write a whole number with KiB, MiB or GiB, such as 64MiB`},
		"no unit":          {"buffer:\n  window: 10\n", `x.yaml:2: "10" is no duration: write a number with ms, s, m or h, such as 10s`},
		"wrong type":       {"sources:\n  - endpoint: a\n    queue: many\n", `x.yaml:3: "many" is no whole number`},
		"twice":            {"site: a\nsite: b\n", `x.yaml:2: not YAML: mapping key "site" already defined at [1:1]`},
	} {
		t.Run(name, func(t *testing.T) {
			var v sample
			_, err := Parse("x.yaml", []byte(c.src), &v)
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestDoc_FaultNamesTheLine(t *testing.T) {
	var v sample
	d, err := Parse("x.yaml", []byte("site: a\nbuffer:\n  max_bytes: 4GiB\n  window: 2s\nsources:\n  - endpoint: b\n"), &v)
	if err != nil {
		t.Fatal(err)
	}
	if v.Buffer.MaxBytes != 4<<30 || time.Duration(v.Buffer.Window) != 2*time.Second {
		t.Errorf("read %+v", v)
	}
	if _, err := Parse("x.yaml", []byte("buffer: {max_bytes: 0}\n"), &v); err != nil || v.Buffer.MaxBytes != 0 {
		t.Errorf("no bytes need no unit: %d, %v", v.Buffer.MaxBytes, err)
	}
	if got, want := d.Fault("$.sources[0].endpoint", "nobody listens at %s", "b").Error(), "x.yaml:6: nobody listens at b"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := d.Fault("$.sources[0].queue", "no queue").Error(), "x.yaml:6: no queue"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := Load(t.TempDir()+"/none.yaml", &v); err == nil {
		t.Error("a missing file was read")
	}
}

func TestNearest_DoesNotDependOnTheOrder(t *testing.T) {
	for _, words := range [][]string{{"produced", "product"}, {"product", "produced"}} {
		if got := Nearest("produce", words); got != "produced" {
			t.Errorf("of %q the nearest is %q", words, got)
		}
	}
}
