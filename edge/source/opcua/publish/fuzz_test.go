package publish

import (
	"testing"

	"github.com/gopcua/opcua/ua"
)

// FuzzPublish: whatever comes, nothing panics, an error leaves nothing behind, and
// what the library reads too is read alike.
func FuzzPublish(f *testing.F) {
	for _, g := range golden() {
		f.Add(g.bytes())
	}
	for seed := range uint64(50) {
		r := newMaker(seed).response()
		f.Add(encode(r))
		f.Add(encode(&ua.RepublishResponse{ResponseHeader: r.ResponseHeader, NotificationMessage: r.NotificationMessage}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Message
		check(t, &m, b)
		err := m.DecodeRepublish(b)
		if err != nil {
			if !empty(&m) {
				t.Fatalf("left behind with %v: %+v", err, m)
			}
			return
		}
		want, theirs := libraryRepublish(b)
		if theirs != nil {
			return
		}
		if d := republishDiffers(&m, want); d != "" {
			t.Fatal(d)
		}
	})
}

// FuzzRead: whatever comes for a read, nothing panics, and an error leaves nothing behind.
func FuzzRead(f *testing.F) {
	f.Add(encode(&ua.ReadResponse{
		ResponseHeader: newMaker(1).response().ResponseHeader,
		Results:        []*ua.DataValue{{EncodingMask: ua.DataValueValue | ua.DataValueStatusCode, Value: ua.MustVariant([]string{"a", ""}), Status: ua.StatusBadNoData}},
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Message
		if err := m.DecodeRead(b); err != nil && !empty(&m) {
			t.Fatalf("left behind with %v: %+v", err, m)
		}
	})
}
