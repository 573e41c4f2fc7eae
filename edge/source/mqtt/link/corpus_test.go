package link

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// corpus are packet cases of a broker's own tests, which lie beside the project.
func corpus(t *testing.T, name string) []byte {
	t.Helper()
	shared := os.Getenv("PLANTMESH_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "..", "..", "shared")
	}
	b, err := os.ReadFile(filepath.Join(shared, "data", "mqtt_packets", name))
	if err != nil {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "shared") {
			t.Fatalf("the packets are not beside the project: %v", err)
		}
		t.Skip("skipped: the packets are not beside the project")
	}
	return b
}

// token is a word of a packet as the corpus writes it: hex bytes, 'text', and numbers with
// the letter of their coding before them.
var token = regexp.MustCompile(`'[^']*'|\S+`)

// assemble makes the bytes of a packet.
func assemble(t *testing.T, text string) (out []byte) {
	t.Helper()
	number := func(w string) uint64 {
		n, err := strconv.ParseUint(w[1:], 10, 32)
		if err != nil {
			t.Fatalf("%q in %q", w, text)
		}
		return n
	}
	for _, w := range token.FindAllString(text, -1) {
		switch w[0] {
		case '\'':
			out = append(out, strings.Trim(w, "'")...)
		case 'r', 'v': // a variable byte integer, however long
			out = binary.AppendUvarint(out, number(w))
		case 's', 'm', 'H':
			out = binary.BigEndian.AppendUint16(out, uint16(number(w)))
		case 'i':
			out = append(out, byte(number(w)))
		case 'L':
			out = binary.BigEndian.AppendUint32(out, uint32(number(w)))
		default:
			b, err := hex.DecodeString(w)
			if err != nil {
				t.Fatalf("%q in %q", w, text)
			}
			out = append(out, b...)
		}
	}
	return out
}

// refused says whether a publish of a device is refused.
func refused(b []byte, version int) bool {
	size, n, err := header(b)
	if err != nil || size == 0 || size+n != len(b) {
		return true
	}
	from := FromDevice5
	if version == 4 {
		from = FromDevice4
	}
	var p Packet
	return Parse(&p, b[0], b[size:], from) != nil
}

func TestParse_PacketsOfABrokersOwnTests(t *testing.T) {
	var groups []struct {
		Ver   int `json:"ver"`
		Tests []struct {
			Name    string `json:"name"`
			Connect *bool  `json:"connect"`
			Ends    *bool  `json:"expect_disconnect"`
			Msgs    []struct {
				Type, Payload string
			} `json:"msgs"`
		} `json:"tests"`
	}
	if err := json.Unmarshal(corpus(t, "lib_PUBLISH.json"), &groups); err != nil {
		t.Fatal(err)
	}
	took, left := 0, 0
	for _, g := range groups {
		for _, c := range g.Tests {
			if c.Connect != nil && !*c.Connect {
				continue // of a connection that was not begun
			}
			want := c.Ends == nil || *c.Ends
			if got := refused(assemble(t, c.Msgs[0].Payload), g.Ver); got != want {
				t.Errorf("version %d: %s: refused %v, want %v", g.Ver, c.Name, got, want)
			}
			if want {
				left++
			} else {
				took++
			}
		}
	}
	if t.Logf("%d taken, %d refused", took, left); took < 20 || left < 60 {
		t.Errorf("only %d packets to take and %d to refuse were found", took, left)
	}
}
