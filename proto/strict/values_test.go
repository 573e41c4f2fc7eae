package strict

import (
	"slices"
	"testing"
	"time"
)

func TestDoc_Values(t *testing.T) {
	keep := Duration(24 * time.Hour)
	var v struct {
		Name  string `yaml:"name"`
		Store struct {
			Size  Size      `yaml:"size"`
			Keep  *Duration `yaml:"keep"`
			Other *Size     `yaml:"other"`
			Pause Duration  `yaml:"pause"`
		} `yaml:"store"`
		List  []string `yaml:"list"`
		On    bool     `yaml:"on"`
		Inner string   `yaml:"-"`
	}
	doc, err := Parse("edge.yaml", []byte("name: a\nstore:\n  size: 64MiB\n  pause: 0s\nlist: [x, y]\n"), &v)
	if err != nil {
		t.Fatal(err)
	}
	if err := Env("X_", []string{"X_ON=true", "Y=1"})(doc, &v); err != nil {
		t.Fatal(err)
	}
	v.Store.Keep = &keep
	want := []Value{
		{"name", "a", "edge.yaml:1"},
		{"store.size", "64MiB", "edge.yaml:3"},
		{"store.keep", "24h", "default"},
		{"store.other", "", "default"},
		{"store.pause", "0s", "edge.yaml:4"},
		{"list", "(2 entries)", "edge.yaml:5"},
		{"on", "true", "X_ON"},
	}
	if got := doc.Values(&v); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	for d, text := range map[time.Duration]string{time.Minute: "1m", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", time.Hour: "1h", 61 * time.Minute: "1h1m", 250 * time.Millisecond: "250ms", 20 * time.Second: "20s"} {
		v.Store.Pause = Duration(d)
		if got := doc.Values(&v)[4].Text; got != text {
			t.Errorf("%s: %q", d, got)
		}
	}
	for z, text := range map[Size]string{0: "0", 1 << 30: "1GiB", 1536 << 20: "1536MiB", 1000: "1000"} {
		v.Store.Size = z
		if got := doc.Values(&v)[1].Text; got != text {
			t.Errorf("%d: %q", z, got)
		}
	}
}
