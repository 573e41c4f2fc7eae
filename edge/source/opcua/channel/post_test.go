package channel

import (
	"bytes"
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

// What is encoded by hand is what the library encodes.
func TestPost_IsTheLibrarysRequest(t *testing.T) {
	now := time.Date(2026, 11, 29, 8, 0, 0, 123_456_700, time.UTC)
	for _, token := range []*ua.NodeID{nil, ua.NewNumericNodeID(1, 77), ua.NewStringNodeID(3, "session"), ua.NewByteStringNodeID(2, []byte{1, 2, 3})} {
		for _, acks := range [][]uint32{nil, {1}, {5, 7, 1<<32 - 1}} {
			raw, err := Token(token)
			if err != nil {
				t.Fatal(err)
			}
			q := PublishRequest{Token: raw, Timeout: 12 * time.Second, Subscription: 4711, Acks: acks}
			want := &ua.PublishRequest{SubscriptionAcknowledgements: []*ua.SubscriptionAcknowledgement{}}
			for _, seq := range acks {
				want.SubscriptionAcknowledgements = append(want.SubscriptionAcknowledgements, &ua.SubscriptionAcknowledgement{SubscriptionID: 4711, SequenceNumber: seq})
			}
			if token == nil {
				token = ua.NewTwoByteNodeID(0)
			}
			want.SetHeader(&ua.RequestHeader{AuthenticationToken: token, Timestamp: now, RequestHandle: 99, TimeoutHint: 12_000, AdditionalHeader: ua.NewExtensionObject(nil)})
			b, err := encode(want)
			if err != nil {
				t.Fatal(err)
			}
			if got := q.append(nil, 99, now); !bytes.Equal(got, b) {
				t.Errorf("token %v, %d acknowledgements:\n%x\nwant\n%x", token, len(acks), got, b)
			}
		}
	}
}

// publishing answers publish requests from the last to the first, then one of
// them again, then one nobody made.
func (s *session) publishing(n int) error {
	body, err := answer(&ua.PublishResponse{
		ResponseHeader:      &ua.ResponseHeader{ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)},
		NotificationMessage: &ua.NotificationMessage{SequenceNumber: 3}, SubscriptionID: 4711,
	})
	if err != nil {
		return err
	}
	var ids []uint32
	for range n {
		id, err := s.request()
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	for _, id := range slices.Backward(ids) {
		if err := s.message("F", id, body); err != nil {
			return err
		}
	}
	return errors.Join(s.message("F", ids[0], body), s.message("F", 4_000_000, body))
}

func TestPost_AnswersComeWithTheirRequests(t *testing.T) {
	for _, c := range []struct {
		room int
		want error
	}{{3, nil}, {2, ErrProtocol}} {
		f := newFake(t)
		done := make(chan error, 1)
		go func() {
			done <- f.serve(func(s *session) error {
				if err := s.opened(); err != nil {
					return err
				}
				// The last answers are to nobody: the client may be gone before them.
				err := s.publishing(3)
				if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
					return nil
				}
				if err != nil {
					return err
				}
				_, _, err = s.next() // until the client goes
				if err == nil {
					err = errors.New("the client sent more")
				} else {
					err = nil
				}
				return err
			})
		}()
		err := With(t.Context(), Config{Endpoint: f.endpoint, Mode: ua.MessageSecurityModeNone, DialTimeout: patience, SendTimeout: patience, Lifetime: time.Hour}, func(ch *Channel) error {
			got := make(chan Posted, c.room)
			var ids []uint32
			for range 3 {
				id, err := ch.Post(&PublishRequest{Token: []byte{0, 0}, Timeout: patience}, got)
				if err != nil {
					return err
				}
				ids = append(ids, id)
			}
			if c.want != nil {
				<-ch.Done()
				return ch.Err()
			}
			for _, id := range slices.Backward(ids) {
				p := <-got
				if p.ID != id || p.Err != nil || p.In == nil || p.In.Subscription != 4711 || p.In.Sequence != 3 {
					t.Errorf("request %d: %+v", id, p)
				}
				ch.Release(p.In)
			}
			return nil
		})
		if !errors.Is(err, c.want) {
			t.Errorf("room for %d: %v", c.room, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
