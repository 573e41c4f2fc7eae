package strict

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestEnv_LaysVariablesOverTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(path, []byte("site: a\nbuffer: {max_bytes: 4GiB, window: 2s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ variable, want string }{
		"a size":       {"X_BUFFER__MAX_BYTES=64MiB", ""},
		"text":         {"X_SITE=12: [", ""},
		"other prefix": {"Y_SITE=b", ""},
		"unknown":      {"X_BUFFER__MAX_BYTE=64MiB", `environment: unknown variable X_BUFFER__MAX_BYTE; did you mean "X_BUFFER__MAX_BYTES"?`},
		"wrong unit":   {"X_BUFFER__WINDOW=2", `X_BUFFER__WINDOW: "2" is no duration: write a number with ms, s, m or h, such as 10s`},
		"a group":      {"X_BUFFER=1", `environment: unknown variable X_BUFFER; allowed here: X_BUFFER__MAX_BYTES, X_BUFFER__WINDOW, X_SITE`},
		"a list":       {"X_SOURCES=1", `environment: unknown variable X_SOURCES; allowed here: X_BUFFER__MAX_BYTES, X_BUFFER__WINDOW, X_SITE`},
		"empty":        {"X_SITE=", "X_SITE: is empty: unset it, or give it a value"},
	} {
		t.Run(name, func(t *testing.T) {
			var v sample
			_, err := Load(path, &v, Env("X_", []string{"PATH=/bin", c.variable}))
			if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
	var v sample
	d, err := Load(path, &v, Env("X_", []string{"X_BUFFER__MAX_BYTES=64MiB", "X_SITE=b c"}))
	if err != nil {
		t.Fatal(err)
	}
	if v.Site != "b c" || v.Buffer.MaxBytes != 64<<20 || time.Duration(v.Buffer.Window) != 2*time.Second {
		t.Errorf("read %+v", v)
	}
	if got, want := d.Fault("$.site", "no name").Error(), "X_SITE: no name"; got != want {
		t.Errorf("a fault of a variable: %s, want %s", got, want)
	}
}

func TestDoc_PlaceFollowsTheKeys(t *testing.T) {
	var v sample
	d, err := Parse("x.yaml", []byte("site: a\n\nsources:\n  - endpoint: b\n    queue: 3\n  - {endpoint: c}\n"), &v)
	if err != nil {
		t.Fatal(err)
	}
	inner := Under("sources[0]", At("queue", "queue %d is short", 3))
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"nested":       {inner, "x.yaml:5: queue 3 is short"},
		"missing key":  {Under("sources[1]", At("queue", "none")), "x.yaml:6: none"},
		"missing part": {At("buffer", "none"), "x.yaml:1: none"},
		"no key":       {errors.New("odd"), "x.yaml:1: odd"},
	} {
		if got := d.Place("$", c.err).Error(); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
	if Under("a", nil) != nil {
		t.Error("nothing wrong became a fault")
	}
}
