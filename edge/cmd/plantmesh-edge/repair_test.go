package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"plantmesh/proto/answer"
)

// What others can read of a gateway's secrets is taken from them, once somebody agrees, and
// nothing else is touched.
func TestCheck_Fix(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{
		"edge.yaml":            "agent: gw-1\nsite: graz\ndata: data\nhub: {url: nats://127.0.0.1:4222, key: agent.nk, token: agent.jwt}\n",
		"sources.d/press.yaml": "mqtt:\n  id: press\n  url: mqtt://127.0.0.1:1883\n  username: anna\n  password_file: anna.pass\n  topics: [{filter: a/+, signal: \"line1.{1}.{key}\", time: ts}]\n  signals: [{name: line1.press.speed, type: double}]\n",
		"sources.d/anna.pass":  "secret",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(in(name)), 0o755), os.WriteFile(in(name), []byte(text), 0o600), os.Chmod(in(name), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	run := func(yes bool) (string, string, error) {
		var out, said bytes.Buffer
		c := &checkCmd{Config: in("edge.yaml"), Only: []string{"cfg-parse", "cfg-sources", "cfg-secrets"}, Format: "text", Fix: true, Yes: yes}
		err := c.Run(t.Context(), &globals{}, &answer.Printer{Program: "plantmesh-edge", Out: &out, Err: &said})
		return out.String(), said.String(), err
	}
	mode := func(name string) os.FileMode {
		info, err := os.Stat(in(name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	_, said, err := run(false)
	if e, ok := errors.AsType[*answer.Error](err); !ok || e.Code != answer.Confirm || !strings.Contains(said, "chmod o= "+in("sources.d/anna.pass")) {
		t.Errorf("%v, %s", err, said)
	}
	if got := mode("sources.d/anna.pass"); got != 0o644 {
		t.Errorf("nobody agreed, and its mode is %o", got)
	}
	out, _, err := run(true)
	if err != nil || !strings.Contains(out, "1 files, none of them for everybody") {
		t.Errorf("%v\n%s", err, out)
	}
	if got, other := mode("sources.d/anna.pass"), mode("edge.yaml"); got != 0o640 || other != 0o644 {
		t.Errorf("modes are %o and %o", got, other)
	}
	if _, said, err = run(true); err != nil || !strings.Contains(said, "nothing of this repairs itself") {
		t.Errorf("a second time: %v, %s", err, said)
	}
}

// A file that is not this gateway's own is told, and left as it is: whoever can write its
// configuration could have root shut any other.
func TestCheck_FixesNothingElsewhere(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "passwd")
	for name, text := range map[string]string{
		filepath.Join(dir, "edge.yaml"):            "agent: gw-1\nsite: graz\ndata: data\nhub: {url: nats://127.0.0.1:4222, key: agent.nk, token: agent.jwt}\n",
		filepath.Join(dir, "sources.d/press.yaml"): "mqtt:\n  id: press\n  url: mqtt://127.0.0.1:1883\n  username: anna\n  password_file: " + elsewhere + "\n  topics: [{filter: a/+, signal: \"line1.{1}.{key}\", time: ts}]\n  signals: [{name: line1.press.speed, type: double}]\n",
		elsewhere: "secret",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600), os.Chmod(name, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	var out, said bytes.Buffer
	c := &checkCmd{Config: filepath.Join(dir, "edge.yaml"), Only: []string{"cfg-parse", "cfg-sources", "cfg-secrets"}, Format: "text", Fix: true, Yes: true}
	err := c.Run(t.Context(), &globals{}, &answer.Printer{Program: "plantmesh-edge", Out: &out, Err: &said})
	if err == nil || !strings.Contains(out.String(), "chmod 600 "+elsewhere) || !strings.Contains(said.String(), "nothing of this repairs itself") {
		t.Errorf("%v, %s\n%s", err, &said, &out)
	}
	if info, err := os.Stat(elsewhere); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
