package main

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// What other programs call something is no command here, and what is told instead is one.
func TestMistyped_SaysWhatItIsCalledHere(t *testing.T) {
	parse := func(line string) error {
		parser, err := kong.New(new(cli), kong.Name("plantmesh-edge"), kong.Exit(func(int) {}), kong.Writers(&strings.Builder{}, &strings.Builder{}))
		if err != nil {
			t.Fatal(err)
		}
		_, err = parser.Parse(strings.Fields(line))
		return err
	}
	for _, c := range elsewhere() {
		err := parse(c.words)
		if err == nil {
			t.Errorf("%s is a command", c.words)
			continue
		}
		if e := mistyped(err, strings.Fields(c.words)); e.Message != "there is no "+c.words || e.Hint != c.hint || e.Fix != c.fix || e.Code != "usage" {
			t.Errorf("%s: %+v", c.words, e)
		}
		if fix, ok := strings.CutPrefix(c.fix, "plantmesh-edge "); ok && !strings.Contains(fix, "--help") {
			if err := parse(fix); err != nil {
				t.Errorf("%s: what it says to type is no command: %v", c.words, err)
			}
		}
	}
	for line, want := range map[string]string{"stauts": `did you mean "status"`, "status --cofig x": "--cofig", "holding --reason x": "holding"} {
		if e := mistyped(parse(line), strings.Fields(line)); !strings.Contains(e.Message, want) || e.Fix != "" {
			t.Errorf("%s: %+v", line, e)
		}
	}
}
