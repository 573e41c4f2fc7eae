package serve

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
)

// later acknowledges as an agent does, from another goroutine than the connection's.
type later struct {
	book

	acks chan func() error
}

func (l *later) Publish(c *Client, p *link.Packet) {
	id := p.ID
	l.acks <- func() error { return c.Ack([]uint16{id}) }
}

// A device that sends with QoS 2, and says how much it takes at once, is acknowledged while
// its next packets are read. The library looks there for more to send, takes a read lock
// within a read lock, and with an acknowledgement between the two neither goes on, ever;
// nobody sends to devices, so it is kept from looking.
func TestServer_AcknowledgesQoS2WhileItReads(t *testing.T) {
	const n, window = 10_000, 64
	cfg, _ := anybody(t)
	l := &later{acks: make(chan func() error, window)}
	s := server(t, cfg, l)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ack := range l.acks {
			_ = ack() // it may be gone
		}
	}()
	t.Cleanup(func() { close(l.acks); <-done })

	conn, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// MQTT 5, user u, password s, receive maximum 1000.
	if _, err := conn.Write([]byte("\x10\x17\x00\x04MQTT\x05\xc2\x00\x3c\x03\x21\x03\xe8\x00\x01c\x00\x01u\x00\x01s")); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	publish := func(out []byte, id uint16) []byte {
		out = append(out, "\x34\x07\x00\x01a"...)
		return append(binary.BigEndian.AppendUint16(out, id), 0, 'x')
	}
	var out []byte
	sent, finished := 0, 0
	for finished < n {
		head, body := answer(t, in)
		switch head >> 4 {
		case 2: // CONNACK
			for ; sent < window; sent++ {
				out = publish(out, uint16(sent+1))
			}
		case 5: // PUBREC: PUBREL
			out = append(append(out, 0x62, 2), body[:2]...)
		case 7: // PUBCOMP: its packet id is free
			if finished++; sent < n {
				out = publish(out, binary.BigEndian.Uint16(body))
				sent++
			}
		}
		if in.Buffered() == 0 {
			if _, err := conn.Write(out); err != nil {
				t.Fatal(err)
			}
			out = out[:0]
		}
	}
}

// answer reads one packet.
func answer(t *testing.T, in *bufio.Reader) (head byte, body []byte) {
	t.Helper()
	head, err := in.ReadByte()
	if err != nil {
		t.Fatal("no answer: ", err)
	}
	size, err := binary.ReadUvarint(in)
	if err != nil {
		t.Fatal(err)
	}
	body = make([]byte, size)
	if _, err := io.ReadFull(in, body); err != nil {
		t.Fatal(err)
	}
	return head, body
}
