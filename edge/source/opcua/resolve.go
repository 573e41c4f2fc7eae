package opcua

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/gopcua/opcua/ua"

	"plantmesh/proto/mesh"
)

const (
	// mostMoved is how many signals are moved one by one: beyond it a new
	// subscription costs less. They stand in the state of every commit.
	mostMoved = 256
	// mostAgain is how often an item is made again on one subscription.
	mostAgain = 15
)

// item is what this run knows of a signal's node and monitored item.
type item struct {
	at     *ua.NodeID // where the node is now; nil: nowhere
	lost   error      // why nowhere
	made   string     // the node that its item was made for; empty: it has no item
	id     uint32     // of the monitored item; 0: made by a run before
	moved  bool       // its first value says nothing of before
	placed bool       // and one came, perhaps a bad one
	kept   string     // the node that its values are of, with the namespace by URI; empty: of none yet
	facts  facts
	drift  string // in which way the signal is not what was agreed
	// cleared: it is again, and what came meanwhile counts for nothing.
	cleared bool
	bare    bool // its server takes no filter for it
}

// every is all signals.
func (r *Reader) every() []int {
	out := make([]int, len(r.items))
	for i := range out {
		out[i] = i
	}
	return out
}

// survey looks, at each connect, where signals' nodes are and what they give:
// namespaces get other indexes, and another node stands where a path leads, whenever
// a PLC is loaded anew.
func (r *Reader) survey(ctx context.Context, signals []int) error {
	uris, at, err := r.sess.namespaces(ctx)
	if err != nil {
		return err
	}
	r.surveyed = mesh.NanosOf(at)
	if r.state.Named != r.named {
		// The file is another one: its indexes are of now.
		r.state.Named, r.state.Pinned, r.state.Seen, r.state.Drifted, r.state.Shapes = r.named, map[uint16]string{}, "", nil, nil
	}
	n := namespaces{uris: uris, pinned: r.state.Pinned}
	r.surveyEvents(n)
	var paths []*ua.BrowsePath
	var whose []int
	for _, i := range signals {
		a := r.nodes[i]
		n.pin(a)
		if a.id != nil {
			r.items[i].at, r.items[i].lost = a.node(n)
			continue
		}
		p, err := a.relative(n)
		if r.items[i].at, r.items[i].lost = nil, err; err == nil {
			paths, whose = append(paths, p), append(whose, i)
		}
	}
	if err := r.follow(ctx, n, paths, whose); err != nil {
		return err
	}
	return r.inspect(ctx, n, signals)
}

// follow finds the nodes behind paths.
func (r *Reader) follow(ctx context.Context, n namespaces, paths []*ua.BrowsePath, whose []int) error {
	if len(paths) == 0 {
		return nil
	}
	results, err := r.translateAll(ctx, paths)
	code, refused := refusal(err)
	if err != nil && (!refused || sessionLost(code)) {
		return fmt.Errorf("look up paths: %w", err)
	}
	for k, i := range whose {
		it := &r.items[i]
		if refused {
			it.lost = fmt.Errorf("the server looks up no paths, name the node instead: %w", code)
			continue
		}
		it.at, it.lost = target(n, results[k])
	}
	return nil
}

// target is the node that a path leads to. One that leads to several leads nowhere:
// which of them is meant nobody knows.
func target(n namespaces, res *ua.BrowsePathResult) (*ua.NodeID, error) {
	if res == nil {
		return nil, ua.StatusBadNoMatch
	}
	if uint32(res.StatusCode)&0xC0000000 != 0 {
		return nil, fmt.Errorf("the path leads nowhere: %w", res.StatusCode)
	}
	var found *ua.NodeID
	for _, t := range res.Targets {
		// OPC 10000-4 §5.8.4: a path that goes on elsewhere has names left over.
		if t == nil || t.TargetID == nil || t.TargetID.NodeID == nil || t.RemainingPathIndex != 0xFFFFFFFF || t.TargetID.ServerIndex != 0 {
			continue
		}
		to := t.TargetID.NodeID
		if uri := t.TargetID.NamespaceURI; uri != "" {
			var err error
			if to, err = (address{id: to, space: space{uri: uri}}).node(n); err != nil {
				return nil, err
			}
		}
		if found != nil && found.String() != to.String() {
			return nil, fmt.Errorf("the path leads to several nodes, %s and %s: %w", found, to, ua.StatusBadTooManyMatches)
		}
		found = to
	}
	if found == nil {
		return nil, fmt.Errorf("the path leads to no node of this server: %w", ua.StatusBadNoMatch)
	}
	return found, nil
}

// fingerprint is the hash of what the items are made for, over all signals that
// have one: where names the node of a signal.
func (r *Reader) fingerprint(where func(i int) string) string {
	without := r.withoutItem()
	h := sha256.New()
	for i := range r.items {
		if !without[i] {
			h.Write([]byte(where(i) + "\x00"))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (r *Reader) withoutItem() map[int]bool {
	out := make(map[int]bool, len(r.state.Refused))
	for _, x := range r.state.Refused {
		out[x.Signal] = true
	}
	return out
}

func (it *item) where() string {
	if it.at == nil {
		return ""
	}
	return it.at.String()
}

// adopt takes the items of a run before for those of the nodes that the signals
// have now. Which of them moved meanwhile nobody knows.
func (r *Reader) adopt() error {
	if r.adopted {
		return nil
	}
	now := r.fingerprint(func(i int) string { return r.items[i].where() })
	if r.state.Nodes != "" && r.state.Nodes != now { // empty: of a program that didn't know
		return fmt.Errorf("%w: some signals' nodes are elsewhere than when its items were made", errGone)
	}
	without := r.withoutItem()
	for i := range r.items {
		if !without[i] {
			r.items[i].made = r.items[i].where()
		}
	}
	r.adopted = true
	r.presume()
	r.goesOn()
	return nil
}

// moved are the signals whose items are not of the nodes they have now.
func (r *Reader) moved() (out []int) {
	found := r.found()
	for i := range r.items {
		it := &r.items[i]
		if it.made != it.where() && (it.made != "" || found[i]) || it.made != "" && (it.cleared || r.state.Dead[i] && it.facts.known) {
			out = append(out, i)
		}
	}
	return out
}

// found are the signals that had no node when their items were asked for and have one now.
func (r *Reader) found() map[int]bool {
	out := map[int]bool{}
	for _, x := range r.state.Refused {
		if x.Signal >= len(r.items) {
			continue // a notifier
		}
		switch ua.StatusCode(x.Status) {
		case ua.StatusBadNodeIDUnknown, ua.StatusBadNodeIDInvalid, ua.StatusBadNoMatch, ua.StatusBadTooManyMatches:
			out[x.Signal] = r.items[x.Signal].at != nil && (r.items[x.Signal].facts.known || r.nodes[x.Signal].path != nil)
		default:
		}
	}
	return out
}

// retire makes what still comes of items that are of other nodes now count for
// nothing, and says of their signals that they are unknown from the proof on:
// which node what comes was of nobody knows.
func (r *Reader) retire(moved []int) error {
	if len(moved) > mostMoved || len(r.state.Again)+len(moved) > 2*mostMoved {
		return fmt.Errorf("%w: %d signals have other nodes now", errGone, len(moved))
	}
	for _, i := range moved {
		if it := r.items[i]; it.made != "" && it.id == 0 || r.state.Again[i] >= mostAgain {
			return fmt.Errorf("%w: the node of %s is another one now", errGone, r.cfg.Signals[i].Name)
		}
	}
	if r.state.Again == nil {
		r.state.Again = map[int]uint16{}
	}
	if len(moved) > 0 { // until their new items are made: a node that is back by then has an old one, which counts for nothing
		r.state.Created = 0
	}
	var texts []string
	for _, i := range moved {
		it := &r.items[i]
		r.state.Again[i]++
		r.again[i] = r.state.Again[i]
		r.moves(i)
		if it.made == "" || it.cleared {
			continue // it is unknown already
		}
		status, why := statusMoved, "its node was "+it.made+" and is "+it.where()
		if it.at == nil {
			status, why = statusOf(it.lost), it.lost.Error()
		}
		r.unknown(i, status)
		r.log.Warn("a signal's node has moved", "signal", r.cfg.Signals[i].Name, "was", it.made, "is", it.where())
		if len(texts) < maxNamed {
			texts = append(texts, r.cfg.Signals[i].Name+": "+why)
		}
	}
	if len(texts) > 0 {
		r.remark(mesh.CauseUnreadable, "nodes have moved: "+strings.Join(texts, "; "))
	}
	return nil
}

// unknown says that nothing is known of a signal from the proof on.
func (r *Reader) unknown(i int, status mesh.Status) {
	heard := r.last[i] > 0
	if from := max(r.sealer.Proof(), r.last[i]); from > 0 {
		r.sealer.Add(mesh.Sample{Signal: r.table[i].ID, Time: from, Agent: r.now(), Status: status})
		r.last[i] = from
	}
	// What a run before kept may lie beyond the proof: nothing of it holds either.
	if !heard && r.before > r.last[i] {
		r.sealer.Add(mesh.Sample{Signal: r.table[i].ID, Time: r.before, Agent: r.now(), Status: status})
		r.last[i] = r.before
	}
}

// remake deletes the items of moved signals and makes others.
func (r *Reader) remake(ctx context.Context, moved []int) error {
	if len(moved) == 0 {
		return nil
	}
	// An answer may get lost: then nobody knows which items there are.
	r.state.Created = 0
	if err := r.commitNow(ctx); err != nil {
		return err
	}
	var old []uint32
	for _, i := range moved {
		if it := &r.items[i]; it.made != "" {
			old = append(old, it.id)
			it.made, it.id = "", 0
		}
	}
	err := inCalls(&r.limits.items, old, func(some []uint32) error {
		// An item that isn't there any more is as good as deleted.
		_, err := call[*ua.DeleteMonitoredItemsResponse](ctx, &r.sess, &ua.DeleteMonitoredItemsRequest{SubscriptionID: r.state.Subscription, MonitoredItemIDs: some})
		return err
	})
	if code, refused := refusal(err); refused && !sessionLost(code) {
		return fmt.Errorf("%w: delete monitored items: %w", errGone, code)
	}
	if err != nil {
		return fmt.Errorf("delete monitored items: %w", err)
	}
	return r.make(ctx, moved)
}

// statusOf is the status of a signal that has no node or item.
func statusOf(why error) mesh.Status {
	var code ua.StatusCode
	if errors.As(why, &code) && mesh.Status(code).IsBad() {
		return mesh.Status(code)
	}
	return mesh.StatusBadNodeIDUnknown // of a namespace that the server does not have
}
