package opcua

import (
	"testing"

	"github.com/gopcua/opcua/ua"
)

func TestServer_TransferIsToldToTheSessionBefore(t *testing.T) {
	r := open(t, Config{}, tempA)
	r.push(tempA, 1, 1)
	r.prove(1)
	before := connect(t, r.URL())
	sub := before.subscribe(100, tempA)
	equal(t, floats(before.drain(sub, 1)), count(1, 1))
	answers := make(chan *ua.PublishResponse, 1)
	go func() {
		defer close(answers)
		for {
			res, err := before.publish()
			if err != nil {
				return
			}
			if len(res.NotificationMessage.NotificationData) > 0 {
				answers <- res
				return
			}
		}
	}()
	eventually(t, func() bool {
		r.Server.mu.Lock()
		defer r.Server.mu.Unlock()
		x := r.find(sub)
		return x.owner.pubs.len() > 0 && !x.due && x.quiet == 0
	})
	after := connect(t, r.URL())
	must[*ua.TransferSubscriptionsResponse](after, &ua.TransferSubscriptionsRequest{SubscriptionIDs: []uint32{sub}})
	res, ok := <-answers
	if !ok {
		t.Fatal("the session before heard nothing")
	}
	n, ok := res.NotificationMessage.NotificationData[0].Value.(*ua.StatusChangeNotification)
	if !ok || n.Status != ua.StatusGoodSubscriptionTransferred || res.SubscriptionID != sub {
		t.Errorf("it heard %+v", res.NotificationMessage.NotificationData[0].Value)
	}
	r.push(tempA, 2, 2)
	r.prove(2)
	equal(t, floats(after.drain(sub, 2)), count(2, 2))
}
