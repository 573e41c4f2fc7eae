package channel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/measure"
	"plantmesh/edge/source/opcua/publish"
)

// corpus are the messages of open62541's fuzzing, by their names; or it skips.
func corpus(t *testing.T) map[string][]byte {
	t.Helper()
	shared := os.Getenv("PLANTMESH_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "..", "..", "shared")
	}
	found, err := filepath.Glob(filepath.Join(shared, "data", "opcua_fuzz", "open62541_binary_message", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		const absent = "the corpus is not in ../shared/data/opcua_fuzz"
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "shared") {
			t.Fatal(absent)
		}
		t.Skip(absent)
	}
	out := map[string][]byte{}
	for _, path := range found {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(path)] = b
	}
	return out
}

// bodies are a file as a whole, and the bodies of the messages in it.
func bodies(b []byte) [][]byte {
	out := [][]byte{b}
	for len(b) >= 8 {
		n := int(binary.LittleEndian.Uint32(b[4:]))
		if n < 8 || n > len(b) {
			n = len(b)
		}
		for _, head := range []int{8, messageHead + tokenHead + sequenceHead} {
			if head <= n {
				out = append(out, b[head:n])
			}
		}
		b = b[n:]
	}
	return out
}

// answers are the type ids of all answers that the library knows.
func answers() (out []uint16) {
	for id := range uint16(1000) {
		_, v, _ := ua.DecodeService([]byte{1, 0, byte(id), byte(id >> 8)})
		if _, ok := v.(ua.Response); ok {
			out = append(out, id)
		}
	}
	return out
}

// TestCorpus_EverySeam: each file, and each message in it as an answer of every
// kind, through all that decodes what a server sends: no panic, soon, and small.
func TestCorpus_EverySeam(t *testing.T) {
	files, kinds := corpus(t), answers()
	seams := map[string]func(b []byte){
		"hello": func(b []byte) {
			for _, head := range []string{"", "ACKF", "ERRF"} {
				_, _ = acknowledged(bytes.NewReader(append([]byte(head), b[min(len(b), len(head)):]...)))
			}
		},
		"chunks": func(b []byte) {
			for _, kind := range []string{"", "MSG", "OPN"} {
				c := openedChannel(t, bytes.NewReader(append([]byte(kind), b[min(len(b), len(kind)):]...)))
				for c.chunkIn() == nil { //nolint:revive // until it ends
				}
			}
		},
		"answers": func(b []byte) {
			for _, body := range bodies(b) {
				_, _ = decode(bytes.Clone(body))
				_, rest, ok := typeID(body)
				for _, id := range kinds {
					if ok {
						_, _ = decode(append([]byte{1, 0, byte(id), byte(id >> 8)}, rest...))
					}
				}
			}
		},
		"notifications": func(b []byte) {
			var m publish.Message
			for _, body := range bodies(b) {
				_ = m.DecodePublish(body)
				_ = m.DecodeRepublish(body)
			}
		},
	}
	for name, seam := range seams {
		t.Run(name, func(t *testing.T) {
			var most uint64
			for file, b := range files {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				began := time.Now()
				seam(b)
				took := time.Since(began)
				runtime.ReadMemStats(&after)
				grown := after.TotalAlloc - before.TotalAlloc
				most = max(most, grown)
				if grown > 64<<20 || took > patience {
					t.Errorf("%s: %d bytes in %s", file, grown, took)
				}
			}
			t.Logf("%d files, at most %d KiB for one", len(files), most>>10)
		})
	}
}

// openedChannel is one that reads r, and waits for answers of every kind.
func openedChannel(t testing.TB, r *bytes.Reader) *Channel {
	t.Helper()
	c := &Channel{cfg: Config{Policy: ua.SecurityPolicyURINone, Mode: ua.MessageSecurityModeNone}, free: make(chan *Answer, 1), waiting: map[uint32]*waiter{}, id: 1}
	var err error
	if c.asym, err = c.cfg.asymmetric(); err != nil {
		t.Fatal(err)
	}
	c.taking[0] = keys{token: 1, algo: c.asym, until: time.Now().Add(time.Hour)}
	for id := range uint32(64) {
		c.waiting[id] = &waiter{kind: kind(id % 5), got: make(chan reply, 1)}
		if kind(id%5) == publishing {
			c.waiting[id].posted = make(chan Posted, 1)
		}
	}
	c.in = newInbox(r)
	return c
}

// TestChannel_PanicWhileReading ends the connection, and is told: not the program.
func TestChannel_PanicWhileReading(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	c := openedChannel(t, bytes.NewReader(nil))
	c.conn, c.done, c.id, c.asym = here, make(chan struct{}), 7, nil // without it a token can't be taken
	c.waiting[1] = &waiter{kind: opening, got: make(chan reply, 1)}
	go func() {
		_ = (&session{Conn: there, token: 1}).open(1, 1000)
		there.Close()
	}()
	if err := c.read(); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "can't be read: runtime error") {
		t.Errorf("%v", err)
	}
	if err := c.Err(); !errors.Is(err, ErrProtocol) {
		t.Errorf("the channel: %v", err)
	}
}

// FuzzServe: any answer to a request of any kind, as it comes out of its chunks:
// through the measure and then the library.
func FuzzServe(f *testing.F) {
	for _, id := range answers() {
		f.Add(uint8(0), append([]byte{1, 0, byte(id), byte(id >> 8)}, make([]byte, 40)...))
	}
	f.Fuzz(func(t *testing.T, k uint8, b []byte) {
		c := openedChannel(t, bytes.NewReader(nil))
		r, err := c.serve(kind(k%5), b)
		if err == nil && r.err == nil && measure.Answer(b) != nil {
			t.Errorf("%T came of what is out of bounds", r.resp)
		}
	})
}
