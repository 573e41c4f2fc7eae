package serve

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
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

// hellos begin a connection, by version.
var hellos = map[int]string{
	4: "\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c",
	5: "\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c",
}

// passes gives what a guard lets through of what a device sends.
func passes(sent []byte) (through []byte, err error) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		_, _ = theirs.Write(sent)
		theirs.Close()
	}()
	through, err = io.ReadAll(newGuard(ours, 1<<20))
	return through, err
}

func TestGuard_PacketsOfABrokersOwnTests(t *testing.T) {
	took, left := 0, 0
	for _, file := range []string{"lib_PUBLISH.json", "lib_PINGREQ.json"} {
		var groups []struct {
			Ver   int `json:"ver"`
			Tests []struct {
				Name     string `json:"name"`
				Connect  *bool  `json:"connect"`
				Answered *bool  `json:"connack"`
				Ends     *bool  `json:"expect_disconnect"`
				Msgs     []struct{ Type, Payload string }
			} `json:"tests"`
		}
		if err := json.Unmarshal(corpus(t, file), &groups); err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			for _, c := range g.Tests {
				sent := assemble(t, c.Msgs[0].Payload)
				begun := (c.Connect == nil || *c.Connect) && (c.Answered == nil || *c.Answered)
				before := ""
				if begun {
					before = hellos[g.Ver]
				}
				// A PINGREQ that is as it should be is the one whose name says so.
				want := c.Ends == nil || *c.Ends
				if strings.Contains(file, "PING") {
					want = !strings.HasSuffix(c.Name, "valid")
				}
				through, err := passes(append([]byte(before), sent...))
				if refused := err != nil; refused != want {
					t.Errorf("%s: version %d: %s: refused %v, want %v; %v", file, g.Ver, c.Name, refused, want, err)
				}
				whole := len(through) == len(before)+len(sent)
				if whole == want {
					t.Errorf("%s: version %d: %s: %d bytes came through", file, g.Ver, c.Name, len(through))
				}
				if want {
					left++
				} else {
					took++
				}
			}
		}
	}
	if t.Logf("%d taken, %d refused", took, left); took < 20 || left < 70 {
		t.Errorf("only %d packets to take and %d to refuse were found", took, left)
	}
}
