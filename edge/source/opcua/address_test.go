package opcua

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	for in, want := range map[string]string{
		"/Objects/nsu=http://opcfoundation.org/UA/Machinery/;Machines/2:press.1/Speed": "[{{ 0} Objects} {{http://opcfoundation.org/UA/Machinery/ 0} Machines} {{ 2} press.1} {{ 0} Speed}]",
		"/Objects/2:a&/b&&c&:d":         "[{{ 0} Objects} {{ 2} a/b&c:d}]",
		"/nsu=urn:a:b;12:30":            "[{{urn:a:b 0} 12:30}]",
		"/a:b":                          "[{{ 0} a:b}]",
		"/&nsu=x":                       "[{{ 0} nsu=x}]",
		"/1&2:x":                        "[{{ 0} 12:x}]",
		"Objects/x":                     "!does not begin at the root",
		"":                              "!does not begin at the root",
		"/":                             "!a name is empty",
		"/Objects//x":                   "!a name is empty",
		"/Objects/":                     "!a name is empty",
		"/nsu=urn:x":                    "!needs a URI and a semicolon",
		"/nsu=;x":                       "!needs a URI and a semicolon",
		"/2:":                           "!a name is empty",
		"/65536:x":                      "!no index of a namespace",
		"/x&":                           "!& stands at the end",
		"/" + strings.Repeat("x", 3000): "!at most 2048",
		strings.Repeat("/x", 65):        "!more than 64 names",
	} {
		got, err := parsePath(in)
		if text, bad := strings.CutPrefix(want, "!"); bad && (err == nil || !strings.Contains(err.Error(), text)) || !bad && (err != nil || fmt.Sprint(got) != want) {
			t.Errorf("%.60q: %v, %v; want %s", in, got, err, want)
		}
	}
}

// written is a path as a careful person writes it.
func written(path []step) string {
	var out strings.Builder
	for _, s := range path {
		out.WriteByte('/')
		switch {
		case s.space.uri != "":
			out.WriteString("nsu=" + s.space.uri + ";")
		case s.space.index > 0:
			fmt.Fprintf(&out, "%d:", s.space.index)
		}
		for _, c := range s.name {
			if strings.ContainsRune("/&;:=", c) {
				out.WriteByte('&')
			}
			out.WriteRune(c)
		}
	}
	return out.String()
}

func TestParsePath_ReadsWhatIsWritten(t *testing.T) {
	const letters = "ab1/&:;=.# ö"
	text := func(most int, from string) string {
		var b strings.Builder
		for range 1 + rand.N(most) {
			b.WriteRune([]rune(from)[rand.N(len([]rune(from)))])
		}
		return b.String()
	}
	for range 20_000 {
		var path []step
		for range 1 + rand.N(5) {
			s := step{name: text(8, letters)}
			switch rand.N(3) {
			case 0:
				s.space.uri = text(12, "urn:/a&1")
			case 1:
				s.space.index = uint16(rand.N(1 << 16))
			}
			path = append(path, s)
		}
		if got, err := parsePath(written(path)); err != nil || !reflect.DeepEqual(got, path) {
			t.Fatalf("%q was read as %v, %v; want %v", written(path), got, err, path)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("/Objects/nsu=urn:a;b/2:c&/d", "nsu=urn:a;s=b")
	f.Fuzz(func(t *testing.T, path, node string) {
		steps, err := parsePath(path)
		if err == nil && (len(steps) == 0 || len(steps) > maxSteps) {
			t.Errorf("%q has %d names", path, len(steps))
		}
		n := namespaces{uris: []string{"http://opcfoundation.org/UA/", "urn:own", "urn:a"}, pinned: map[uint16]string{}}
		if a, err := parseNode(node); err == nil {
			n.pin(a)
			_, _ = a.node(n) // it ends
		}
	})
}

func TestNamespaces_AnIndexMeansWhatItMeant(t *testing.T) {
	n := namespaces{uris: []string{"", "urn:own", "urn:a", "urn:b"}, pinned: map[uint16]string{}}
	read := func(s string) string {
		a, err := parseNode(s)
		if err != nil {
			t.Fatal(err)
		}
		n.pin(a)
		id, err := a.node(n)
		if err != nil {
			return err.Error()
		}
		return id.String()
	}
	for _, c := range []struct{ node, before, after, gone string }{
		{"ns=2;s=x", "ns=2;s=x", "ns=3;s=x", `index 2 was namespace "urn:a"`},
		{"ns=1;s=x", "ns=1;s=x", "ns=1;s=x", "ns=1;s=x"},
		{"i=2255", "i=2255", "i=2255", "i=2255"},
		{"nsu=urn:b;i=7", "ns=3;i=7", "ns=2;i=7", "ns=2;i=7"},
		{"nsu=http://opcfoundation.org/UA/;i=7", `no namespace`, "i=7", "i=7"},
	} {
		n.uris = []string{"", "urn:own", "urn:a", "urn:b"}
		before := read(c.node)
		n.uris = []string{"http://opcfoundation.org/UA/", "urn:new", "urn:b", "urn:a"}
		after := read(c.node)
		n.uris = n.uris[:3]
		gone := read(c.node)
		if !strings.Contains(before, c.before) || after != c.after || !strings.Contains(gone, c.gone) {
			t.Errorf("%s: %s, then %s, then %s", c.node, before, after, gone)
		}
	}
}
