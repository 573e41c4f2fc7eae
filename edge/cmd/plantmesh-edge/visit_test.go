package main

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/trust"
	"plantmesh/proto/answer"
)

// What a source's file can say of security, a flag says for browse: advice names it.
func TestAsFlags_EachKeyHasItsFlag(t *testing.T) {
	parser, err := kong.New(&cli{})
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]bool{}
	for _, command := range parser.Model.Leaves(false) {
		if command.Path() == "browse" || strings.HasPrefix(command.Path(), "browse ") {
			for _, f := range command.Flags {
				flags["--"+f.Name] = true
			}
		}
	}
	for f := range reflect.TypeFor[opcua.Security]().Fields() {
		key := f.Tag.Get("yaml")
		if flag := asFlags("set security." + key + " there"); !strings.HasPrefix(flag, "set --") || !flags[strings.Fields(flag)[1]] {
			t.Errorf("%s is said as %q; browse has %v", key, flag, flags)
		}
	}
	for in, want := range map[string]string{
		"or allow it: security.accept_uri_mismatch: true":                                       "or allow it: --accept-uri-mismatch",
		"take security.policy: Basic256Sha256 with security.mode: Sign, or security.mode: Sign": "take --policy Basic256Sha256 with --mode Sign, or --mode Sign",
		"security.mode: SignAndEncrypt":                                                         "--mode SignAndEncrypt",
		"security.user: it is missing":                                                          "--user: it is missing",
		"security of all":                                                                       "security of all",
	} {
		if got := asFlags(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// Flags that call a server are all said again where a command for it is proposed; --trust is
// not, as what it trusted stays trusted.
func TestVisitFlags_Again(t *testing.T) {
	var f visitFlags
	v := reflect.ValueOf(&f).Elem()
	for _, field := range v.Fields() {
		if field.Kind() == reflect.Bool {
			field.SetBool(true)
		} else {
			field.SetString("x")
		}
	}
	words := f.again("opc.tcp://plc-7")
	said := 0
	for _, w := range words {
		if strings.HasPrefix(w, "--") {
			said++
		}
	}
	if all := v.NumField() - 1; said != all || words[0] != "opc.tcp://plc-7" || slices.Contains(words, "--trust") {
		t.Errorf("%d of %d flags: %q", said, all, words)
	}
	for key, value := range reflect.ValueOf(f.security()).Fields() {
		if value.IsZero() {
			t.Errorf("%s is left out", key.Name)
		}
	}
}

func TestOnlyHost(t *testing.T) {
	for name, want := range map[string]bool{
		"plc-7": true, "plc-7.plant.local": true, "plc_7:4840": true, "192.168.10.21": true, "192.168.10.21:4841": true, "fe80::1": true, "[fe80::1]:4840": true,
		"opc.tcp://plc-7": false, "plc-7/path": false, "plc 7": false, "": false, "plc-7:": false, "plc-7:port": false,
	} {
		if got := onlyHost(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// What a visit failed of is a slug of its own where a script would act on it.
func TestVisited_HasASlug(t *testing.T) {
	for want, err := range map[answer.Code]error{
		answer.Network:        &opcua.VisitError{Text: "security.mode"},
		answer.UserDenied:     &opcua.VisitError{Kind: opcua.OfLogin, Text: "security.mode"},
		answer.OwnCertRefused: &opcua.VisitError{Kind: opcua.OfOwnCertificate, Text: "security.mode"},
		answer.CertUntrusted:  &opcua.VisitError{Err: &trust.Refusal{}, Text: "security.mode"},
	} {
		for byFlags, says := range map[bool]string{true: "x: not connected: --mode", false: "x: not connected: security.mode"} {
			s := server{Config: opcua.Config{Endpoint: "x"}, byFlags: byFlags}
			got, ok := errors.AsType[*answer.Error](s.visited(err))
			if !ok || got.Code != want || got.Message != says {
				t.Errorf("%+v, want %s: %s", got, want, says)
			}
		}
	}
	s := server{byFlags: true}
	if err := s.visited(nil); err != nil {
		t.Errorf("a visit that went well: %v", err)
	}
}
