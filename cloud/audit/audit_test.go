package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// clock gives a second more each time.
func clock() func() time.Time {
	at := time.Date(2026, 3, 1, 4, 0, 0, 123456789, time.UTC)
	return func() time.Time {
		at = at.Add(time.Second)
		return at
	}
}

func opened(t testing.TB, dir string) *Trail {
	t.Helper()
	trail, err := Open(dir, clock())
	if err != nil {
		t.Fatal(err)
	}
	return trail
}

func add(t testing.TB, trail *Trail, c ...Change) Seal {
	t.Helper()
	s, err := trail.Append(c...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func approval(n int) Change {
	return Change{Who: "anna", Via: CLI, Action: "agent.approve", Object: fmt.Sprintf("graz/gw-%d", n), After: "key UABC", Reason: "<it> & \"that\""}
}

// files are the bytes of a trail by names.
func contents(t testing.TB, dir string) (out []byte) {
	t.Helper()
	all, err := names(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

// The format is a contract: whoever wrote an export can verify it years later.
func TestTrail_GoldenBytes(t *testing.T) {
	dir := t.TempDir()
	s := add(t, opened(t, dir), approval(1), Change{Who: "hub", Via: Hub, Action: "agent.enroll", Object: "graz/gw-2", Address: "192.0.2.7"})
	const want = `{"n":1,"at":"2026-03-01T04:00:01.123456789Z","who":"hub","via":"hub","action":"audit.begin","object":"audit","prev":"0000000000000000000000000000000000000000000000000000000000000000","hash":"HASH1"}
{"n":2,"at":"2026-03-01T04:00:02.123456789Z","who":"anna","via":"cli","action":"agent.approve","object":"graz/gw-1","after":"key UABC","reason":"\u003cit\u003e \u0026 \"that\"","prev":"HASH1","hash":"HASH2"}
{"n":3,"at":"2026-03-01T04:00:03.123456789Z","who":"hub","via":"hub","address":"192.0.2.7","action":"agent.enroll","object":"graz/gw-2","prev":"HASH2","hash":"HASH3"}
`
	hashes := strings.NewReplacer( // each is that of: sed 's/,"hash".*//' of its line, without the line feed
		"HASH1", "2a6508cc38fa0cdbaaba6a502cf9bef90be938b61c950590d24cf979cc6ebf6f",
		"HASH2", "5e1b79c649eca8fd0bd05f0705342efe5960b9e771a6b1736a4a8c89dfd2b8dc",
		"HASH3", "48a6230bd7fb0f30de0841e65a695b1fa175b2acbede1dae563fdd4e32e339dc")
	if got := string(contents(t, dir)); got != hashes.Replace(want) {
		t.Errorf("the trail is\n%s", got)
	}
	if s.N != 3 || s.String() != "3:"+s.Hash {
		t.Errorf("the seal is %s", s)
	}
	if info, err := os.Stat(filepath.Join(dir, "00000000000000000001.jsonl")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
}

// grown makes a trail of several files.
func grown(t testing.TB, dir string, n int) *Trail {
	t.Helper()
	trail := opened(t, dir)
	trail.maxFile = 700
	for i := range n {
		add(t, trail, approval(i))
	}
	return trail
}

func TestVerify_AllOfIt(t *testing.T) {
	dir := t.TempDir()
	trail := grown(t, dir, 20)
	s, err := trail.Seal()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Verify(t.Context(), dir, &s)
	if err != nil || r.Seal != s || r.Seal.N != 21 || r.Files < 4 || r.Torn != 0 {
		t.Errorf("%+v, %v; want %s", r, err, s)
	}
	if none, err := Verify(t.Context(), t.TempDir(), nil); err != nil || none.Seal.N != 0 {
		t.Errorf("of nothing: %+v, %v", none, err)
	}
}

// Whatever byte is changed, taken out or put in: it is found, and nothing before it is
// doubted.
func TestVerify_FindsAnyChange(t *testing.T) {
	origin := t.TempDir()
	end, err := grown(t, origin, 12).Seal()
	if err != nil {
		t.Fatal(err)
	}
	all, err := names(origin)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		hit := rapid.SampledFrom(all).Draw(rt, "file")
		for _, name := range all {
			b, err := os.ReadFile(filepath.Join(origin, name))
			if err != nil {
				rt.Fatal(err)
			}
			if name == hit {
				at := rapid.IntRange(0, len(b)-1).Draw(rt, "at")
				switch rapid.IntRange(0, 3).Draw(rt, "how") {
				case 0:
					b[at] ^= byte(rapid.IntRange(1, 255).Draw(rt, "bits"))
				case 1:
					b = append(b[:at], b[at+1:]...)
				case 2:
					b = append(b[:at], append([]byte{rapid.Byte().Draw(rt, "byte")}, b[at:]...)...)
				case 3:
					b = b[:at]
				}
			}
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				rt.Fatal(err)
			}
		}
		r, err := Verify(t.Context(), dir, &end)
		if err == nil && r.Torn == 0 {
			rt.Fatalf("nothing is found: %+v", r)
		}
		if begin := beginOf(hit); r.Seal.N+1 < begin {
			rt.Fatalf("%v: verified to %d only, the file begins with %d", err, r.Seal.N, begin)
		}
	})
}

// What was taken away whole is found by the next file, or by a seal.
func TestVerify_WhatIsGone(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(dir string, all []string) error
		want string
	}{
		"the first file": {func(dir string, all []string) error { return os.Remove(filepath.Join(dir, all[0])) }, "entry 1 is not there"},
		"one between":    {func(dir string, all []string) error { return os.Remove(filepath.Join(dir, all[1])) }, "is not there, nor the file that begins with it"},
		"the newest":     {func(dir string, all []string) error { return os.Remove(filepath.Join(dir, all[len(all)-1])) }, "was there and is not"},
		"all":            {func(dir string, _ []string) error { return os.RemoveAll(dir) }, "was there and is not"},
		"for another trail": {func(dir string, _ []string) error {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			other, err := Open(dir, func() time.Time { return time.Unix(0, 0) })
			for i := range 30 {
				_, err2 := other.Append(approval(i))
				err = errors.Join(err, err2)
			}
			return err
		}, "is another one than was there"},
		"a line": {func(dir string, all []string) error {
			at := filepath.Join(dir, all[1])
			b, err := os.ReadFile(at)
			_, b, _ = bytes.Cut(b, []byte("\n"))
			return errors.Join(err, os.WriteFile(at, b, 0o600))
		}, all1 + ":1: entry"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "audit")
			s, err := grown(t, dir, 12).Seal()
			if err != nil {
				t.Fatal(err)
			}
			all, err := names(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.harm(dir, all); err != nil {
				t.Fatal(err)
			}
			_, err = Verify(t.Context(), dir, &s)
			if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), strings.Replace(c.want, all1, all[1], 1)) {
				t.Errorf("found %v, want %q", err, c.want)
			}
		})
	}
}

const all1 = "ALL1"

// A line that power loss has left half is cut off and named; whatever it said was not
// done.
func TestTrail_TornTail(t *testing.T) {
	line := func(i int) []byte {
		dir := t.TempDir()
		add(t, opened(t, dir), approval(i))
		_, b, _ := bytes.Cut(contents(t, dir), []byte("\n"))
		return b
	}(7)
	for name, torn := range map[string][]byte{
		"one byte": line[:1], "half": line[:len(line)/2], "without its line feed": line[:len(line)-1],
		"zeros": make([]byte, 300), "a page of zeros, and its end": append(make([]byte, 100), line[100:]...),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			before := add(t, opened(t, dir), approval(1))
			file := filepath.Join(dir, nameOf(1))
			whole, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, append(bytes.Clone(whole), torn...), 0o600); err != nil {
				t.Fatal(err)
			}
			if r, err := Verify(t.Context(), dir, nil); err != nil || r.Seal != before || r.Torn != len(torn) {
				t.Errorf("%+v, %v", r, err)
			}
			add(t, opened(t, dir), approval(2))
			if !bytes.HasPrefix(contents(t, dir), whole) {
				t.Error("what was whole has changed")
			}
			entries, _, _, err := Page(t.Context(), dir, Filter{}, before.N, 10)
			if err != nil || len(entries) != 2 || entries[0].Action != "audit.cut" || entries[1].Object != "graz/gw-2" {
				t.Errorf("%+v, %v", entries, err)
			}
			if want := fmt.Sprintf("%d bytes", len(torn)); !strings.Contains(entries[0].Reason, want) || entries[0].Object != nameOf(1) {
				t.Errorf("it is not named: %+v", entries[0])
			}
			if r, err := Verify(t.Context(), dir, &before); err != nil || r.Torn != 0 || r.Seal.N != before.N+2 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// What is broken otherwise takes no more: nothing is done that can't be recorded.
func TestTrail_BrokenTakesNoMore(t *testing.T) {
	dir := t.TempDir()
	running := grown(t, dir, 1)
	add(t, running, approval(2))
	all, err := names(dir)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, all[len(all)-1])
	b, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	harmed := bytes.Replace(b, []byte("anna"), []byte("otto"), 1)
	if err := os.WriteFile(at, harmed, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := opened(t, dir).Seal(); !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), all[len(all)-1]+":2: entry 2") {
		t.Errorf("opened: %v", err)
	}
	if err := os.WriteFile(at, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := running.Append(approval(3)); !errors.Is(err, ErrBroken) {
		t.Errorf("one that was shortened while it is open: %v", err)
	}
	if err := os.Remove(at); err != nil {
		t.Fatal(err)
	}
	if _, err := running.Append(approval(3)); err == nil && len(all) > 1 {
		t.Error("one whose newest file went while it is open takes more")
	}
}

func TestChange_Bounds(t *testing.T) {
	dir := t.TempDir()
	trail := opened(t, dir)
	for _, c := range []Change{
		{Via: CLI, Action: ""},
		{Via: CLI, Action: "approve"},
		{Via: CLI, Action: "agent.Approve"},
		{Via: CLI, Action: "a." + strings.Repeat("b", 70)},
		{Via: "", Action: "agent.approve"},
		{Via: "mail", Action: "agent.approve"},
	} {
		if _, err := trail.Append(c); !errors.Is(err, ErrChange) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if len(contents(t, dir)) > 0 {
		t.Error("something was recorded")
	}
	long := strings.Repeat("\x01é\xff", 4<<10)
	add(t, trail, Change{Who: long, Via: CLI, Address: long, Action: "agent.approve", Object: long, Before: long, After: long, Reason: long})
	lines := bytes.Split(contents(t, dir), []byte("\n"))
	if n := len(lines[1]); n >= MaxLine {
		t.Errorf("an entry of %d bytes", n)
	}
	var e Entry
	if err := json.Unmarshal(lines[1], &e); err != nil {
		t.Fatal(err)
	}
	for most, text := range map[int]string{maxWho: e.Who, maxAddress: e.Address, maxObject: e.Object, maxState: e.After, maxReason: e.Reason} {
		if len(text) > most || !utf8.ValidString(text) || !strings.HasSuffix(text, "…") {
			t.Errorf("%d bytes of at most %d", len(text), most)
		}
	}
	if r, err := Verify(t.Context(), dir, nil); err != nil || r.Seal.N != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestPage_FiltersAndCursor(t *testing.T) {
	dir := t.TempDir()
	trail := grown(t, dir, 30)
	add(t, trail, Change{Who: "otto", Via: Session, Action: "agent.revoke", Object: "linz/gw-1"})
	noon := time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		f    Filter
		want int
	}{
		"all": {Filter{}, 32}, "who": {Filter{Who: "otto"}, 1}, "action": {Filter{Action: "agent.approve"}, 30}, "actions": {Filter{Action: "agent."}, 31},
		"object": {Filter{Object: "graz/gw-7"}, 1}, "objects": {Filter{Object: "graz/"}, 30}, "nobody": {Filter{Who: "ann"}, 0},
		"from": {Filter{From: noon.Add(30 * time.Second)}, 3}, "to": {Filter{To: noon.Add(10 * time.Second)}, 9},
	} {
		t.Run(name, func(t *testing.T) {
			var got []uint64
			for next, more := uint64(0), true; more; {
				var entries []Entry
				var err error
				if entries, next, more, err = Page(t.Context(), dir, c.f, next, 7); err != nil || len(entries) > 7 {
					t.Fatalf("%d entries, %v", len(entries), err)
				}
				for _, e := range entries {
					if n := len(got); n > 0 && got[n-1] >= e.N {
						t.Errorf("%d behind %d", e.N, got[n-1])
					}
					got = append(got, e.N)
				}
			}
			newest, err := Newest(t.Context(), dir, c.f, 5)
			if len(got) != c.want || err != nil || len(newest) != min(5, c.want) || c.want > 0 && newest[0].N != got[len(got)-1] {
				t.Errorf("%d entries, want %d; newest %d, %v", len(got), c.want, len(newest), err)
			}
		})
	}
}

func TestParseSeal(t *testing.T) {
	s := Seal{12, strings.Repeat("ab", 32)}
	if got, err := ParseSeal(s.String()); err != nil || got != s {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "12", "12:", "x:" + s.Hash, "12:" + s.Hash[1:], "12:" + strings.ToUpper(s.Hash), "12:" + strings.Repeat("g", 64)} {
		if _, err := ParseSeal(bad); !errors.Is(err, ErrSeal) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestExport_TheBytesThatWereRecorded(t *testing.T) {
	dir := t.TempDir()
	grown(t, dir, 12)
	var out bytes.Buffer
	if n, err := Export(t.Context(), dir, &out); err != nil || n != 13 || !bytes.Equal(out.Bytes(), contents(t, dir)) {
		t.Errorf("%d entries, %v", n, err)
	}
}
