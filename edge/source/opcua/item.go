package opcua

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/proto/strict"
)

// maxQueue is the longest queue of one item that is asked for.
const maxQueue = 1_000_000

// sampling is how often the server shall look at signal i; 0: at each change.
func (r *Reader) sampling(i int) time.Duration {
	return time.Duration(cmp.Or(r.cfg.Signals[i].SamplingInterval, r.cfg.SamplingInterval))
}

// queue is how many values the server shall keep of signal i: as many as come in
// the outage that is to be survived, where that is said and can be reckoned.
func (r *Reader) queue(i int) uint32 {
	if own := r.cfg.Signals[i].QueueSize; own > 0 {
		return own
	}
	every := r.sampling(i)
	if fastest := r.items[i].facts.minimum; fastest > 0 && fastest < float64(math.MaxInt64/time.Millisecond) {
		every = max(every, time.Duration(fastest*float64(time.Millisecond)))
	}
	if r.cfg.Outage == 0 || every <= 0 {
		return r.cfg.QueueSize
	}
	return uint32(min(maxQueue, (time.Duration(r.cfg.Outage)+every-1)/every+1))
}

func (r *Reader) item(i int, id *ua.NodeID) *ua.MonitoredItemCreateRequest {
	r.initial[i] = true
	filter := ua.NewExtensionObject(nil)
	if f := r.filter(i); f != nil {
		filter = ua.NewExtensionObject(f)
	}
	return &ua.MonitoredItemCreateRequest{
		ItemToMonitor:  &ua.ReadValueID{NodeID: id, AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{}},
		MonitoringMode: ua.MonitoringModeReporting,
		RequestedParameters: &ua.MonitoringParameters{
			ClientHandle: r.state.handle(i, r.again[i]), SamplingInterval: float64(r.sampling(i)) / float64(time.Millisecond),
			QueueSize: r.queue(i), DiscardOldest: true, Filter: filter,
		},
	}
}

// make asks for the monitored items of these signals. That all were made is
// committed with their subscription: one that has only some is not taken up again.
func (r *Reader) make(ctx context.Context, signals []int) error {
	var wanted []*ua.MonitoredItemCreateRequest
	for _, i := range signals {
		if r.items[i].lost != nil {
			r.refuse(i, r.items[i].lost)
			continue
		}
		wanted = append(wanted, r.item(i, r.items[i].at))
	}
	for len(wanted) > 0 {
		r.unfiltered = nil
		err := inCalls(&r.limits.items, wanted, func(some []*ua.MonitoredItemCreateRequest) error { return r.monitor(ctx, some) })
		if err != nil {
			return err
		}
		wanted = r.unfiltered
	}
	if bad := len(r.state.Refused); bad > 0 {
		r.log.Error("some signals are not read", "count", bad, "of", len(r.nodes))
	}
	if text := r.revised.text(); text != "" {
		r.state.Revised = text
		r.log.Warn("the server does not do all that was asked", "how", text)
	}
	r.state.Created, r.state.Nodes = len(r.nodes), r.fingerprint(func(i int) string { return r.items[i].made })
	return r.commitNow(ctx)
}

// monitor creates items and notes those the server refuses. Where it refuses
// the call as a whole, the items are asked for one by one, so that a single
// bad node costs only itself.
func (r *Reader) monitor(ctx context.Context, items []*ua.MonitoredItemCreateRequest) error {
	c, err := call[*ua.CreateMonitoredItemsResponse](ctx, &r.sess, &ua.CreateMonitoredItemsRequest{
		SubscriptionID: r.state.Subscription, TimestampsToReturn: ua.TimestampsToReturnBoth, ItemsToCreate: items,
	})
	if code, refused := refusal(err); refused {
		return r.notMonitored(ctx, items, code)
	}
	if err != nil {
		return fmt.Errorf("create monitored items: %w", err)
	}
	if len(c.Results) != len(items) {
		return fmt.Errorf("the server answered %d items with %d results", len(items), len(c.Results))
	}
	for k, res := range c.Results {
		asked := items[k].RequestedParameters
		if res.StatusCode != ua.StatusOK && uint32(res.StatusCode)&0xC0000000 != 0 {
			r.itemRefused(asked, res.StatusCode)
			continue
		}
		r.isMade(asked.ClientHandle, res.MonitoredItemID)
		r.deep(r.index(asked), res.RevisedQueueSize)
		r.revised.item(r.index(asked), asked, res)
	}
	return nil
}

// notMonitored says what it means that the server refuses a call for items as a whole.
func (r *Reader) notMonitored(ctx context.Context, items []*ua.MonitoredItemCreateRequest, code ua.StatusCode) error {
	switch {
	case code == ua.StatusBadSubscriptionIDInvalid || code == ua.StatusBadSessionIDInvalid:
		return fmt.Errorf("%w: create monitored items: %w", errGone, code)
	case len(items) == 1:
		r.itemRefused(items[0].RequestedParameters, code)
		return nil
	case tooLarge(code):
		return code
	}
	for i := range items {
		if err := r.monitor(ctx, items[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// itemRefused notes that the server gives no item. One that it gives none for
// because of its filter is asked for again without.
func (r *Reader) itemRefused(asked *ua.MonitoringParameters, code ua.StatusCode) {
	i, _, _ := r.state.signal(asked.ClientHandle)
	if filterRefused(code) && r.filter(i) != nil {
		r.items[i].bare = true
		r.revised.filter(i, r.sieved != nil && r.sieved[i].band > 0)
		r.unfiltered = append(r.unfiltered, r.item(i, r.items[i].at))
		return
	}
	r.refuse(i, code)
}

// index is the signal of an item that was asked for.
func (r *Reader) index(asked *ua.MonitoringParameters) int {
	i, _, _ := r.state.signal(asked.ClientHandle)
	return i
}

// isMade notes the item of a signal.
func (r *Reader) isMade(handle, id uint32) {
	i, _, _ := r.state.signal(handle)
	r.items[i].made, r.items[i].id, r.items[i].cleared = r.items[i].where(), id, false
	delete(r.state.Dead, i)
	r.state.Refused = slices.DeleteFunc(r.state.Refused, func(x refused) bool { return x.Signal == i })
}

// refuse notes a signal that the server gives no item for. What was known of it
// must not be carried on: begin gives it a sample of this status.
func (r *Reader) refuse(i int, why error) {
	r.initial[i] = false
	r.keeps(i, "")
	r.state.Refused = slices.DeleteFunc(r.state.Refused, func(x refused) bool { return x.Signal == i }) // asked for twice, after a crash
	r.state.Refused = append(r.state.Refused, refused{i, statusOf(why)})
	r.log.Warn("the server refuses a signal", "signal", r.table[i].Name, "node", r.where(i), "error", why.Error())
}

// where is the node of signal or notifier i as the configuration has it.
func (r *Reader) where(i int) string {
	if n := i - len(r.cfg.Signals); n >= 0 {
		return r.cfg.Events[n].Node
	}
	return cmp.Or(r.cfg.Signals[i].Node, r.cfg.Signals[i].Path)
}

// fewer stands in the state of programs that noted no queues.
const fewer = "keep fewer values than asked"

// revised gathers where a server does less than was asked.
type revised struct {
	subscription []string
	slower       map[int]bool // signals that are looked at less often
	slowest      time.Duration
	shorter      map[int]bool // signals that keep fewer values
	fewest       uint32
	most         uint32 // of them asked for
	bridged      time.Duration
	here         map[int]bool // signals whose deadband is applied here
	nowhere      map[int]bool // signals whose filter nobody applies
}

func newRevised() revised {
	return revised{slower: map[int]bool{}, shorter: map[int]bool{}, here: map[int]bool{}, nowhere: map[int]bool{}}
}

func (v *revised) item(i int, asked *ua.MonitoringParameters, res *ua.MonitoredItemCreateResult) {
	if asked.SamplingInterval > 0 && res.RevisedSamplingInterval > asked.SamplingInterval {
		v.slower[i] = true
		v.slowest = max(v.slowest, inMillis(res.RevisedSamplingInterval))
	}
	if res.RevisedQueueSize >= asked.QueueSize {
		return
	}
	first := len(v.shorter) == 0
	if v.shorter[i] = true; first || res.RevisedQueueSize < v.fewest {
		v.fewest, v.bridged = res.RevisedQueueSize, 0
		if res.RevisedSamplingInterval > 0 {
			v.bridged = inMillis(res.RevisedSamplingInterval * float64(res.RevisedQueueSize))
		}
	}
	v.most = max(v.most, asked.QueueSize)
}

func (v *revised) filter(i int, here bool) {
	if here {
		v.here[i] = true
		return
	}
	v.nowhere[i] = true
}

// ofSubscription compares what was asked for with what the server gives.
func (v *revised) ofSubscription(asked *ua.CreateSubscriptionRequest, given *ua.CreateSubscriptionResponse) {
	differs := func(what string, a, b time.Duration) {
		if a != b {
			v.subscription = append(v.subscription, fmt.Sprintf("%s %s instead of %s", what, b, a))
		}
	}
	before, after := inMillis(asked.RequestedPublishingInterval), inMillis(given.RevisedPublishingInterval)
	differs("publishing_interval", before, after)
	differs("keep-alive each", times(before, asked.RequestedMaxKeepAliveCount), times(after, given.RevisedMaxKeepAliveCount))
	differs("lifetime", times(before, asked.RequestedLifetimeCount), times(after, given.RevisedLifetimeCount))
}

// inMillis is a Duration of OPC UA.
func inMillis(ms float64) time.Duration {
	if !(ms > 0) {
		return 0
	}
	return time.Duration(min(ms*float64(time.Millisecond), math.MaxInt64/2))
}

func times(d time.Duration, n uint32) time.Duration {
	if n > 0 && d > math.MaxInt64/time.Duration(n) {
		return math.MaxInt64
	}
	return d * time.Duration(n)
}

// text says it in words; empty: the server does all that was asked.
func (v *revised) text() string {
	out := slices.Clone(v.subscription)
	if n := len(v.slower); n > 0 {
		out = append(out, fmt.Sprintf("%d signals are sampled less often than asked, down to each %s", n, v.slowest))
	}
	if n := len(v.shorter); n > 0 {
		text := fmt.Sprintf("%d signals "+fewer+", down to %d of %d", n, v.fewest, v.most)
		if v.fewest <= 1 {
			text += ", where changes in an outage are a gap"
		}
		if v.bridged > 0 {
			text += fmt.Sprintf(", %s of an outage", v.bridged)
		}
		out = append(out, text)
	}
	if n := len(v.here); n > 0 {
		out = append(out, fmt.Sprintf("the deadband of %d signals is applied here", n))
	}
	if n := len(v.nowhere); n > 0 {
		out = append(out, fmt.Sprintf("trigger or deadband of %d signals are not applied: each change comes", n))
	}
	return strings.Join(out, "; ")
}

// outlasting checks what is to be survived.
func (c *Config) outlasting() error {
	switch {
	case c.Outage > c.Lifetime:
		return strict.At("outage", "outage must be at most lifetime: the server forgets the subscription then")
	case c.QueueSize > maxQueue:
		return strict.At("queue_size", "queue_size must be at most %d", maxQueue)
	}
	return nil
}

// asked is a hash of what subscription and items are asked to do: other words in the
// file need another subscription. Empty where nothing is asked for but the nodes.
func (c *Config) asked() string {
	type source struct {
		publishing, sampling, lifetime, outage strict.Duration
		alive, queue                           uint32
	}
	type signal struct {
		sampling          strict.Duration
		queue             uint32
		deadband, trigger string
	}
	var plain Config
	plain.defaults()
	of := func(c *Config) source {
		return source{c.PublishingInterval, c.SamplingInterval, c.Lifetime, c.Outage, c.KeepAliveCount, c.QueueSize}
	}
	h, some := sha256.New(), of(c) != of(&plain)
	h.Write(fmt.Append(nil, of(c)))
	for i, s := range c.Signals {
		if x := (signal{s.SamplingInterval, s.QueueSize, s.Deadband, s.Trigger}); x != (signal{}) {
			some = true
			h.Write(fmt.Append(nil, i, x))
		}
	}
	if !some {
		return ""
	}
	return "-" + hex.EncodeToString(h.Sum(nil)[:8])
}
