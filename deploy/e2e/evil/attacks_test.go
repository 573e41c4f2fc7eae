package evil

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// deed is an attack, and what the source's status then says.
type deed struct {
	attack

	name string // with the row of the catalogue
	says string
	slow bool // it takes as long as a timeout
}

// to is an attack on one kind of request.
func to[T ua.Request](do func(c *conn, req uint32, r T)) attack {
	return attack{on: func(c *conn, req uint32, what ua.Request) bool {
		r, ok := what.(T)
		if ok {
			do(c, req, r)
		}
		return ok
	}}
}

// reads answers each read with a body.
func reads(body []byte) attack {
	return to(func(c *conn, req uint32, _ *ua.ReadRequest) { c.message(req, body) })
}

// variants answers each read with a result of one variant.
func variants(v ...byte) attack { return reads(readings(1, value(v...))) }

// notes answers each publish request with a body.
func notes(body func(c *conn) []byte) attack {
	return to(func(c *conn, req uint32, _ *ua.PublishRequest) { c.later(req, func() []byte { return body(c) }) })
}

// item answers each publish request with one data value.
func item(v ...byte) attack {
	return notes(func(c *conn) []byte { return c.notification(c.handle(0), v) })
}

// raw answers the first request with bytes that are no message.
func raw(b []byte) attack {
	return attack{on: func(c *conn, _ uint32, _ ua.Request) bool { c.send(b); return true }}
}

// hello answers a hello with bytes.
func hello(b []byte) attack { return attack{hello: func(c *conn) { c.send(b) }} }

func deeds() []deed {
	return append(append(append(nested(), counts()...), frames()...), services()...)
}

// nested are values in values.
func nested() []deed {
	const much = 2 << 20
	diagnostics := slices.Concat(begin(id.CreateSessionResponse_Encoding_DefaultBinary)[:20], deep(much, []byte{0x40}, 0))
	return []deed{
		{name: "A01 variants in a variant, 2 MB, in a read", says: "nested too deep", attack: variants(deep(much, []byte{24}, 1, 1)...)},
		{name: "A01 data values in a variant, 2 MB", says: "nested too deep", attack: variants(deep(much, []byte{23, 1}, 1, 1)...)},
		{name: "A01 variants in a variant, 2 MB, in a notification", says: "nested more than 16 levels", attack: item(value(deep(much, []byte{24}, 1, 1)...)...)},
		{name: "A01 a chain of diagnostics", says: "nested too deep", attack: to(func(c *conn, req uint32, _ *ua.CreateSessionRequest) { c.message(req, diagnostics) })},
		{name: "A01 extension objects in extension objects", says: "nested too deep", attack: variants(append([]byte{22}, filters(1000)...)...)},
		{name: "A02 arrays of variants in arrays, each of 65,535", says: "a count that can't be", attack: variants(deep(5000, []byte{24 | 0x80, 0xff, 0xff, 0, 0}, 1, 1)...)},
	}
}

// counts are numbers of more than there is.
func counts() []deed {
	// Three such messages at once would be too large together.
	million := to(func(c *conn, req uint32, _ *ua.PublishRequest) {
		const n = 3 << 20
		if c.next == 1 {
			c.message(req, c.notifications(u32(nil, n), make([]byte, 5*n)))
		}
	})
	return []deed{
		{name: "A02 -2 elements", says: "a count that can't be", attack: variants(u32([]byte{12 | 0x80}, math.MaxUint32-1)...)},
		{name: "A02 2^31 elements", says: "a count that can't be", attack: variants(u32([]byte{12 | 0x80}, math.MaxInt32)...)},
		{name: "A02 50 million dimensions", says: "array dimensions", attack: variants(u32(u32([]byte{1 | 0xc0}, 0), 50_000_000)...)},
		{name: "A02 2^31 results", says: "a count that can't be", attack: reads(u32(begin(id.ReadResponse_Encoding_DefaultBinary), math.MaxInt32))},
		{name: "A02 15 million empty results", says: "too much of memory", attack: reads(readings(15<<20, make([]byte, 15<<20)))},
		{name: "A02 2^31 values in a notification", says: "a count that can't be", attack: notes(func(c *conn) []byte { return c.notifications(u32(nil, math.MaxInt32), nil) })},
		{name: "A02 3 million empty values in a notification", says: "a count that can't be", attack: million},
		{name: "A02 a million kept messages", says: "a count that can't be", attack: notes(func(*conn) []byte {
			b := u32(begin(id.PublishResponse_Encoding_DefaultBinary), subscriptionID)
			return append(u32(b, 1<<20), make([]byte, 4<<20)...)
		})},
		{name: "A02 no results", says: "", attack: reads(readings(0, nil))},
		{name: "A02 fewer results than asked for", says: "2 items with 0 results", attack: to(func(c *conn, req uint32, _ *ua.CreateMonitoredItemsRequest) {
			c.answer(req, &ua.CreateMonitoredItemsResponse{ResponseHeader: header(0)})
		})},
		{name: "A02 more results than asked for", says: "2 items with 100000 results", attack: to(func(c *conn, req uint32, _ *ua.CreateMonitoredItemsRequest) {
			a := &ua.CreateMonitoredItemsResponse{ResponseHeader: header(0)}
			for range 100_000 {
				a.Results = append(a.Results, &ua.MonitoredItemCreateResult{FilterResult: ua.NewExtensionObject(nil)})
			}
			c.answer(req, a)
		})},
		{name: "A11 a path with a million ends", says: "too much of memory", attack: to(func(c *conn, req uint32, _ *ua.TranslateBrowsePathsToNodeIDsRequest) {
			b := u32(begin(id.TranslateBrowsePathsToNodeIDsResponse_Encoding_DefaultBinary), 1)
			b = u32(u32(b, 0), 1<<20)
			b = append(b, bytes.Repeat([]byte{0, 7, 0xff, 0xff, 0xff, 0xff}, 1<<20)...)
			c.message(req, append(b, 0xff, 0xff, 0xff, 0xff))
		})},
	}
}

// frames are chunks and handshakes.
func frames() []deed {
	token := u32(nil, tokenID)
	flood := func(id func(n uint32) uint32, mark string, size int) attack {
		return attack{on: func(c *conn, req uint32, _ ua.Request) bool {
			for n := uint32(0); c.part(mark, req+id(n), make([]byte, size)); n++ { //nolint:revive // until it is closed
			}
			return true
		}}
	}
	return []deed{
		{name: "A03 chunks without end", says: "more than 1024 chunks", attack: flood(func(uint32) uint32 { return 0 }, "C", 1)},
		{name: "A03 large chunks without end", says: "or 16777216 bytes", attack: flood(func(uint32) uint32 { return 0 }, "C", 60_000)},
		{name: "A03 chunks of many requests", says: "gives no answer", attack: flood(func(n uint32) uint32 { return n + 1 }, "C", 60_000), slow: true},
		{name: "A04 buffers of 4 GiB", says: "buffers of 4294967295", attack: hello(numbers("ACKF", 0, math.MaxUint32, math.MaxUint32, math.MaxUint32, math.MaxUint32))},
		{name: "A04 buffers of 0", says: "buffers of 0 and 0", attack: hello(numbers("ACKF", 0, 0, 0, 0, 0))},
		{name: "A04 an acknowledgement of 4 GiB", says: "an acknowledgement of 4294967295 bytes", attack: hello([]byte("ACKF\xff\xff\xff\xff\x00\x00\x00\x00"))},
		{name: "A04 another protocol", says: "this is no OPC UA server", attack: hello([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))},
		{name: "A04 a refusal that steers terminals", says: "?[2J?[31mowned", attack: hello(refusal(uint32(ua.StatusBadTCPInternalError), "\x1b[2J\x1b[31mowned"))},
		{name: "A05 a chunk of nothing", says: "a chunk of 0 bytes", attack: raw([]byte("MSGF\x00\x00\x00\x00"))},
		{name: "A05 a chunk of 4 GiB", says: "at most 65535 are agreed", attack: raw([]byte("MSGF\xff\xff\xff\xff"))},
		{name: "A05 another token", says: "with token 99", attack: raw(chunk("MSGF", channelID, u32(nil, 99), 2, 2, nil))},
		{name: "A05 another channel", says: "a message of channel 99", attack: raw(chunk("MSGF", 99, token, 2, 2, nil))},
		{name: "A05 a sequence number that jumps", says: "chunk 900 came after chunk 1", attack: raw(chunk("MSGF", channelID, token, 900, 2, nil))},
		{name: "A05 a channel opened unasked", says: "nobody asked for", attack: raw(chunk("OPNF", channelID, security(), 2, 2, nil))},
		{name: "A05 channels closed again and again", says: "by the server", attack: raw(chunk("CLOF", channelID, token, 2, 2, nil))},
		{name: "A05 an error with a text of 4 GiB", says: "0x00000005", attack: raw(append(numbers("ERRF", 5, math.MaxUint32), make([]byte, 8)...))},
		{name: "A05 a channel of no token", says: "", attack: attack{open: func(c *conn, req uint32) { c.grant(req, 0, 0, 0) }, on: func(*conn, uint32, ua.Request) bool { return true }}, slow: true},
		{name: "A10 it takes the connection and says nothing", says: "does not say hello", attack: attack{hello: func(*conn) {}}, slow: true},
		{name: "A10 a byte at a time", says: "does not say hello", attack: attack{hello: func(c *conn) { c.trickle(300*time.Millisecond, numbers("ACKF", 0, 65535, 65535, 0, 0)) }}, slow: true},
		{name: "A10 an answer a byte at a time", says: "gives no answer", attack: attack{on: func(c *conn, req uint32, _ ua.Request) bool {
			c.trickle(100*time.Millisecond, chunk("MSGF", channelID, token, 2, req, make([]byte, 4000)))
			return true
		}}, slow: true},
		{name: "A10 it never answers", says: "gives no answer", attack: attack{on: func(*conn, uint32, ua.Request) bool { return true }}, slow: true},
		{name: "A10 it publishes nothing", says: "no answer to publish requests", attack: to(func(*conn, uint32, *ua.PublishRequest) {}), slow: true},
	}
}

// trickle sends a byte now and then, until it is done or nobody is there.
func (c *conn) trickle(every time.Duration, b []byte) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range b {
		<-tick.C
		if !c.send(b[i : i+1]) {
			return
		}
	}
}

// services are answers that are whole and wrong.
func services() []deed {
	revised := func(interval float64, count uint32) attack {
		return to(func(c *conn, req uint32, _ *ua.CreateSubscriptionRequest) {
			c.answer(req, &ua.CreateSubscriptionResponse{ResponseHeader: header(0), SubscriptionID: subscriptionID, RevisedPublishingInterval: interval, RevisedLifetimeCount: 0, RevisedMaxKeepAliveCount: count})
		})
	}
	out := []deed{
		{name: "A07 an answer of another service", says: "answered *ua.CreateSessionRequest with *ua.ReadResponse", attack: to(func(c *conn, req uint32, _ *ua.CreateSessionRequest) {
			c.answer(req, &ua.ReadResponse{ResponseHeader: header(0)})
		})},
		{name: "A07 an answer of no service", says: "can't be read", attack: to(func(c *conn, req uint32, _ *ua.CreateSessionRequest) { c.message(req, []byte{1, 0, 1, 0, 0}) })},
		{name: "A07 an answer that is cut", says: "ends early", attack: reads(begin(id.ReadResponse_Encoding_DefaultBinary)[:18])},
		{name: "A07 a notification that is none", says: "for a notification", attack: to(func(c *conn, req uint32, _ *ua.PublishRequest) {
			c.answer(req, &ua.ReadResponse{ResponseHeader: header(0)})
		})},
		{name: "A07 a publishing interval of NaN", says: "revised the publishing interval to NaN ms", attack: revised(math.NaN(), 10)},
		{name: "A07 a publishing interval without end", says: "revised the publishing interval to +Inf ms", attack: revised(math.Inf(1), 10)},
		{name: "A07 a negative publishing interval", says: "revised the publishing interval to -1 ms", attack: revised(-1, 10)},
		{name: "A07 an item of somebody else", says: "is not of this reader", attack: notes(func(c *conn) []byte { return c.notification(0xdeadbeef, variant(ua.TypeIDBoolean, 1)) })},
		{name: "A07 messages of other subscriptions", says: "no answer to publish requests", attack: notes(func(*conn) []byte { return published(1, 1, time.Now(), u32(nil, 0)) }), slow: true},
		{name: "A07 messages from far ahead", says: "", attack: notes(func(c *conn) []byte {
			c.wmu.Lock()
			defer c.wmu.Unlock()
			c.next += 2
			return published(subscriptionID, c.next, time.Now(), append(u32(nil, 1), 0, 0, 0))
		})},
		{name: "A07 a clock of 1601", says: "the server's clock says", attack: clock(1)},
		{name: "A07 a clock of 9999", says: "the server's clock says", attack: clock(math.MaxInt64)},
		{name: "A07 a subscription that ends", says: "", attack: notes(func(*conn) []byte {
			body := append(u32(nil, uint32(ua.StatusBadTimeout)), 0)
			object := append(u32([]byte{1, 0, id.StatusChangeNotification_Encoding_DefaultBinary & 0xff, id.StatusChangeNotification_Encoding_DefaultBinary >> 8, 1}, uint32(len(body))), body...)
			return published(subscriptionID, 1, time.Now(), append(u32(nil, 1), object...))
		})},
		{name: "A07 a session whose token has 10 MB", says: "a session token of 10485", attack: attack{
			on: func(c *conn, req uint32, what ua.Request) bool {
				if _, ok := what.(*ua.CreateSessionRequest); !ok {
					return false
				}
				c.answer(req, &ua.CreateSessionResponse{ResponseHeader: header(0), SessionID: ua.NewTwoByteNodeID(1), AuthenticationToken: ua.NewByteStringNodeID(1, make([]byte, 10<<20)), ServerSignature: &ua.SignatureData{}})
				return true
			},
		}},
		{name: "A07 a republished keep-alive without end", says: "", attack: attack{on: func(c *conn, req uint32, what ua.Request) bool {
			switch r := what.(type) {
			case *ua.ActivateSessionRequest:
				c.answer(req, &ua.ActivateSessionResponse{ResponseHeader: header(0)})
			case *ua.TransferSubscriptionsRequest:
				c.answer(req, &ua.TransferSubscriptionsResponse{ResponseHeader: header(0), Results: []*ua.TransferResult{{}}})
			case *ua.RepublishRequest:
				b := u64(u32(begin(id.RepublishResponse_Encoding_DefaultBinary), r.RetransmitSequenceNumber), ticks(time.Now()))
				c.message(req, u32(b, 0))
			default:
				return false
			}
			return true
		}}},
	}
	for name, what := range map[string]attack{
		"create a session": refusing[*ua.CreateSessionRequest](), "activate": refusing[*ua.ActivateSessionRequest](),
		"subscribe": refusing[*ua.CreateSubscriptionRequest](), "publish": refusing[*ua.PublishRequest](),
	} {
		out = append(out, deed{name: "A07 a fault to each request to " + name, says: "StatusBadInternalError", attack: what})
	}
	return append(out, deed{name: "A07 a fault to each request", says: "StatusBadInternalError", attack: attack{on: func(c *conn, req uint32, _ ua.Request) bool {
		c.answer(req, fault(ua.StatusBadInternalError))
		return true
	}}})
}

func refusing[T ua.Request]() attack {
	return to(func(c *conn, req uint32, _ T) { c.answer(req, fault(ua.StatusBadInternalError)) })
}

// clock is a server whose clock says so many ticks.
func clock(t int64) attack {
	return notes(func(c *conn) []byte {
		c.wmu.Lock()
		defer c.wmu.Unlock()
		c.next++
		b := published(subscriptionID, c.next-1, time.Now(), u32(nil, 0))
		// PublishTime stands before the count of notifications, and that before two lists and the end.
		binary.LittleEndian.PutUint64(b[len(b)-8-4-8:], uint64(t))
		return b
	})
}

// odd are values that are no attack on a decoder, and must come through or be told.
func odd() map[string][]byte {
	long := strings.Repeat("x", 300<<10) // more than is stored; some of them still fit one message, however slow the reader is
	with := func(v []byte, more ...byte) []byte { return append(append([]byte{v[0] | 2}, v[1:]...), more...) }
	return map[string][]byte{
		"invalid UTF-8":           variant(ua.TypeIDString, text(nil, "\xff\xfe\x80a")...),
		"a text of NUL":           variant(ua.TypeIDString, text(nil, "a\x00b\x1b[2J")...),
		"a text of 300 kB":        variant(ua.TypeIDString, text(nil, long)...),
		"NaN":                     variant(ua.TypeIDDouble, u64(nil, math.Float64bits(math.NaN()))...),
		"a signalling NaN":        variant(ua.TypeIDDouble, u64(nil, 0x7ff0000000000001)...),
		"infinity":                variant(ua.TypeIDDouble, u64(nil, math.Float64bits(math.Inf(-1)))...),
		"no variant":              {0},
		"an empty variant":        variant(ua.TypeIDNull),
		"an unknown object":       variant(ua.TypeIDExtensionObject, append([]byte{1, 4, 4, 4, 1}, text(nil, "????")...)...),
		"an XML object":           variant(ua.TypeIDExtensionObject, append([]byte{1, 0, 4, 4, 2}, text(nil, "<a>")...)...),
		"bad, with a value":       with(variant(ua.TypeIDDouble, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f), 0, 0, 0, 0x80),
		"a reserved severity":     with(variant(ua.TypeIDDouble, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f), 0xff, 0xff, 0xff, 0xff),
		"a source stamp of 1601":  append(append([]byte{1 | 4}, variant(ua.TypeIDBoolean, 1)[1:]...), u64(nil, 1)...),
		"a source stamp of 9999":  append(append([]byte{1 | 4}, variant(ua.TypeIDBoolean, 1)[1:]...), u64(nil, math.MaxInt64)...),
		"a negative source stamp": append(append([]byte{1 | 4}, variant(ua.TypeIDBoolean, 1)[1:]...), u64(nil, 1<<63)...),
		"an array":                variant(ua.TypeIDDouble|0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"a node id of bytes":      variant(ua.TypeIDNodeID, append([]byte{5, 1, 0}, text(nil, "\x00\xff")...)...),
		"a date of 30,000 BC":     variant(ua.TypeIDDateTime, u64(nil, 1<<63)...),
		"a GUID":                  variant(ua.TypeIDGUID, make([]byte, 16)...),
	}
}
