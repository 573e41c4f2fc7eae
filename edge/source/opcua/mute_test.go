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

// TestReader_AServerThatHangsBehindTheLogin is told in plain words, and asked for
// another session after a while: the subscription is none the worse for it.
func TestReader_AServerThatHangsBehindTheLogin(t *testing.T) {
	p := newPLC(t)
	a, _, _ := p.plant()
	hung, tokens := false, map[string]int{}
	p.hangs = func(r ua.Request) bool {
		if login, is := r.(*ua.ActivateSessionRequest); is {
			if hung {
				tokens[login.RequestHeader.AuthenticationToken.String()]++
			}
			return false
		}
		return hung
	}
	r := p.run(t, pressed(), nil, func(r *Reader) { r.sess.patience = 300 * time.Millisecond })
	r.says(t, "2@0 3")
	p.edit(func() { hung = true })
	p.cut()
	until(t, "a second session is asked for", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(tokens) > 1 })
	if told := r.told(); !strings.Contains(told, "the server takes the login and then answers nothing: it hangs") || !strings.Contains(told, "start its OPC UA server anew") {
		t.Errorf("told is %q", told)
	}
	p.edit(func() {
		hung = false
		for token, n := range tokens {
			if n > mostMute+1 {
				t.Errorf("session %s was tried %d times", token, n)
			}
		}
	})
	p.set(a, int32(11))
	r.says(t, "0@1 11")
	if n, m := p.count("CreateSubscriptionRequest"), p.count("TransferSubscriptionsRequest"); n != 1 || m == 0 {
		t.Errorf("%d subscriptions were made, %d taken over", n, m)
	}
	if told := r.told(); !strings.HasSuffix(told, "; connected") {
		t.Errorf("told at last is %q", told)
	}
}

// TestReader_AServerThatNeverPublishes is not called connected; after some tries it is
// asked for another subscription.
func TestReader_AServerThatNeverPublishes(t *testing.T) {
	p := newPLC(t)
	p.plant()
	p.mutes = true
	cfg := pressed()
	cfg.KeepAliveCount = 1
	r := p.run(t, cfg, nil, func(r *Reader) { r.unanswered = mostMute - 1 })
	until(t, "it is told", func() bool { return r.told() != "" })
	if told := r.told(); !strings.HasPrefix(told, "not connected: the server answers, but does not send what changes") || !strings.Contains(told, "set poll: 1s") {
		t.Errorf("told is %q", told)
	}
	until(t, "another subscription is asked for", func() bool { return p.count("CreateSubscriptionRequest") == 2 })
	p.edit(func() { p.mutes = false })
	r.says(t, "2@0 3")
	if told := r.told(); !strings.HasSuffix(told, "; connected") {
		t.Errorf("told at last is %q", told)
	}
}
