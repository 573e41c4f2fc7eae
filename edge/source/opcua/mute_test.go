package opcua

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

func (p *plc) isDown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

// fails has the server end the newest connection with an ERR message. The caller
// holds mu.
func (p *plc) fails() {
	b := binary.LittleEndian.AppendUint32([]byte("ERRF"), 16)
	b = binary.LittleEndian.AppendUint32(b, uint32(ua.StatusBadInternalError))
	b = binary.LittleEndian.AppendUint32(b, math.MaxUint32) // and no words
	_, _ = p.cables[len(p.cables)-2].Write(b)               // it may be cut
}

// tokens has the server know who activates a session the first time.
func (p *plc) tokens(again func()) {
	known := map[string]bool{}
	p.hangs = func(r ua.Request) bool {
		a, ok := r.(*ua.ActivateSessionRequest)
		if !ok {
			return false
		}
		token := a.RequestHeader.AuthenticationToken.String()
		if known[token] {
			again()
			return true
		}
		known[token] = true
		return false
	}
}

// TestReader_ASessionThatGetsNoAnswerIsGivenUp: for a new one, which takes the
// subscription over.
func TestReader_ASessionThatGetsNoAnswerIsGivenUp(t *testing.T) {
	for name, how := range map[string]func(p *plc){
		"an ERR message": (*plc).fails,
		"silence":        func(*plc) {},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPLC(t)
			a, _, _ := p.plant()
			tries := 0
			p.tokens(func() { tries++; how(p) })
			r := p.run(t, pressed(), nil, func(r *Reader) { r.sess.patience = 500 * time.Millisecond })
			r.says(t, "2@0 3")
			p.cut()
			p.edit(func() {
				a.value = p.stamped(int32(11))
				p.queueOf(a)
			})
			r.says(t, "0@0 11")
			if n, m := p.count("CreateSubscriptionRequest"), p.count("TransferSubscriptionsRequest"); tries != mostMute || n != 1 || m != 1 {
				t.Errorf("asked %d times; %d subscriptions were made, %d taken over", tries, n, m)
			}
		})
	}
}

// TestReader_AnOutageIsNoSilence: where there is no channel, or the server answers
// nobody, the session may live on.
func TestReader_AnOutageIsNoSilence(t *testing.T) {
	p := newPLC(t)
	a, _, _ := p.plant()
	hung := 0
	p.hangs = func(r ua.Request) bool {
		_, is := r.(*ua.ActivateSessionRequest)
		if is && hung > 0 {
			hung--
			p.fails()
			return true
		}
		return false
	}
	r := p.run(t, pressed(), nil)
	r.says(t, "2@0 3")
	p.edit(func() { p.down = true })
	p.cut()
	until(t, "some tries are in vain", func() bool { return strings.Count(r.told(), "not connected") > mostMute })
	p.edit(func() { p.down, hung = false, mostMute+1 }) // the session, and then a new one
	until(t, "nobody is answered", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return hung == 0 })
	p.set(a, int32(11))
	r.says(t, "0@1 11")
	if n := p.count("TransferSubscriptionsRequest"); n != 0 {
		t.Errorf("the subscription was taken over %d times: its session was forgotten", n)
	}
}
