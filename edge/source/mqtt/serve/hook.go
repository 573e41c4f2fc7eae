package serve

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/storage"
	"github.com/mochi-mqtt/server/v2/packets"

	"plantmesh/edge/source/mqtt/link"
)

// hook is how the library asks.
type hook struct {
	mochi.HookBase

	s *Server

	mu       sync.Mutex // protects the fields below
	sessions map[string]Session
	left     map[string]uint64 // which of them was left last
	leaves   uint64
	clients  map[*mochi.Client]*Client
	owners   map[string]string // of client ids that are connected
	refused  uint64
}

func newHook(s *Server, sessions []Session) *hook {
	h := &hook{s: s, sessions: map[string]Session{}, left: map[string]uint64{}, clients: map[*mochi.Client]*Client{}, owners: map[string]string{}}
	for _, x := range sessions {
		h.sessions[x.Client] = x
	}
	return h
}

// ID names the hook.
func (h *hook) ID() string { return "plantmesh" }

// Provides lists what is asked here.
func (h *hook) Provides(event byte) bool {
	return slices.Contains([]byte{
		mochi.StoredClients, mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnSessionEstablish, mochi.OnSessionEstablished,
		mochi.OnDisconnect, mochi.OnClientExpired, mochi.OnPacketRead, mochi.OnPublish, mochi.OnWill,
	}, event)
}

// StoredClients are the sessions of before: a device that finds its own again knows
// that what it sent may have been stored, and says so with DUP.
func (h *hook) StoredClients() (out []storage.Client, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(h.sessions)) {
		x := h.sessions[id]
		out = append(out, storage.Client{
			ID: x.Client, T: storage.ClientKey, Username: []byte(x.User), ProtocolVersion: x.Version, Listener: "devices",
			Properties: storage.ClientProperties{SessionExpiryInterval: x.Expiry, SessionExpiryIntervalFlag: x.Version == 5},
		})
	}
	return out, nil
}

// OnConnectAuthenticate lets in who is known: by its password, or by its certificate.
// A client id belongs to the user who came with it first.
func (h *hook) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	user := h.user(cl, pk)
	var old, why string
	switch {
	case user == "" || len(cl.ID) > maxClientID:
		why = h.stranger(pk, len(cl.ID))
	case h.s.cfg.Passing && lasts(cl):
		why = lasting
	default:
		old, why = h.admit(cl, user)
	}
	if old != "" { // outside of the lock
		h.s.log.Warn("a user has too many client ids: the session that was left longest ago is forgotten", "user", user, "client_id", old, "most", mostPerUser)
		h.s.mqtt.Clients.Delete(old)
		h.end(old)
	}
	if why == "" {
		if g, ok := cl.Net.Conn.(*caller); ok {
			g.known()
		}
		return true
	}
	h.refuse(cmp.Or(user, cl.Net.Remote), why)
	h.s.log.Warn("a device was refused", "remote", cl.Net.Remote, "user", user, "why", why)
	if h.s.cfg.Passing { // the connection just ends: some never call again where somebody says no (MQTT.js)
		cl.Stop(packets.ErrServerUnavailable)
	}
	return false
}

// lasting is why a device is not taken by who is gone soon.
const lasting = "it asks for a session that lasts (clean session off, or a session expiry), and would drop what it holds for the agent when it hears that nobody here has that session: its connection was ended; to see what it says have it keep no session for the test, or run the agent"

// lasts reports whether a device asks for a session that lasts longer than its connection.
func lasts(cl *mochi.Client) bool {
	if cl.Properties.ProtocolVersion < 5 {
		return !cl.Properties.Clean
	}
	return !cl.Properties.Clean || cl.Properties.Props.SessionExpiryInterval > 0
}

// admit gives a client id to a user, or the reason why not. Where it has too many, old is
// the one to be forgotten for it: a device that makes up an id each time it starts would
// else be shut out for ever.
func (h *hook) admit(cl *mochi.Client, user string) (old, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	owner, known := h.owner(cl.ID)
	if known && owner != user {
		return "", "its client id is another user's"
	}
	if !known && h.owned(user) >= mostPerUser {
		if old = h.oldest(user); old == "" {
			return "", fmt.Sprintf("%d of its client ids are connected already, as many as one user may have", mostPerUser)
		}
		delete(h.sessions, old)
	}
	h.owners[cl.ID] = user
	h.clients[cl] = &Client{ID: cl.ID, User: user, c: cl, twice: map[uint16]bool{}}
	return old, ""
}

// oldest is the session of a user that was left longest ago; empty: all are connected.
func (h *hook) oldest(user string) (id string) {
	for x, s := range h.sessions {
		if _, here := h.owners[x]; s.User != user || here {
			continue
		}
		if id == "" || h.left[x] < h.left[id] || h.left[x] == h.left[id] && x < id {
			id = x
		}
	}
	return id
}

// stranger says why nobody knows who calls.
func (h *hook) stranger(pk packets.Packet, id int) string {
	said := string(pk.Connect.Username)
	switch {
	case id > maxClientID:
		return fmt.Sprintf("a client id of %d bytes, at most %d are taken", id, maxClientID)
	case said == "":
		return "it says no user, and shows no certificate that devices names"
	case h.s.devices[said] == nil:
		return fmt.Sprintf("user %.100q is none of devices", said)
	}
	return fmt.Sprintf("user %.100q says another password than its password_file, or shows no certificate of that name", said)
}

// user is who calls; empty: nobody we know.
func (h *hook) user(cl *mochi.Client, pk packets.Packet) string {
	name := ""
	if g, ok := cl.Net.Conn.(*caller); ok {
		name = g.name
	}
	said := string(pk.Connect.Username)
	if said == "" {
		said = name
	}
	d := h.s.devices[said]
	if d == nil {
		return ""
	}
	if d.has {
		got := sha256.Sum256(pk.Connect.Password)
		if subtle.ConstantTimeCompare(got[:], d.password[:]) == 1 {
			return said
		}
	}
	if name != "" && name == said && len(pk.Connect.Password) == 0 {
		return said
	}
	return ""
}

// owner is whose a client id is.
func (h *hook) owner(id string) (user string, ok bool) {
	if s, ok := h.sessions[id]; ok {
		return s.User, true
	}
	user, ok = h.owners[id]
	return user, ok
}

func (h *hook) owned(user string) (n int) {
	for _, s := range h.sessions {
		if s.User == user {
			n++
		}
	}
	for id, u := range h.owners {
		if _, kept := h.sessions[id]; u == user && !kept {
			n++
		}
	}
	return n
}

// OnACLCheck: a device publishes what it may, and subscribes to nothing.
func (h *hook) OnACLCheck(cl *mochi.Client, topic string, write bool) bool {
	ok := write && h.may(cl, topic)
	if !ok {
		h.deny(cl, topic, write)
	}
	// Who is gone soon does not even say no to a message: the device would drop it, and
	// the file that is tested may be what is wrong. OnPublish leaves it.
	return ok || write && h.s.cfg.Passing
}

// deny refuses a topic.
func (h *hook) deny(cl *mochi.Client, topic string, write bool) {
	who, why := cl.Net.Remote, fmt.Sprintf("it may not publish on %.200q: publish of its device names no such topic", topic)
	if c := h.client(cl); c != nil {
		who = c.User
	}
	if !write {
		why = fmt.Sprintf("it wants to hear %.200q: nothing is published here", topic)
	}
	h.refuse(who, why)
}

func (h *hook) may(cl *mochi.Client, topic string) bool {
	c := h.client(cl)
	return c != nil && slices.ContainsFunc(h.s.devices[c.User].Publish, func(f string) bool { return matches(f, topic) })
}

func (h *hook) client(cl *mochi.Client) *Client {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.clients[cl]
}

// OnSessionEstablish comes before the library looks for the old session: a clean
// start ends it.
func (h *hook) OnSessionEstablish(cl *mochi.Client, pk packets.Packet) {
	if pk.Connect.Clean {
		h.end(cl.ID)
	}
}

// OnSessionEstablished: from here on it may have packets that come again.
func (h *hook) OnSessionEstablished(cl *mochi.Client, _ packets.Packet) {
	// Nothing is sent to devices. A library that may send looks after each packet for what
	// waits, with a read lock within a read lock: an Ack between the two ends in a deadlock.
	cl.State.Inflight.ResetSendQuota(0)
	s := Session{Client: cl.ID, Version: cl.Properties.ProtocolVersion, Expiry: cl.Properties.Props.SessionExpiryInterval}
	lasts := s.Version < 5 && !cl.Properties.Clean || s.Version == 5 && s.Expiry > 0
	h.mu.Lock()
	if c := h.clients[cl]; c != nil {
		s.User = c.User
	}
	was, had := h.sessions[s.Client]
	if lasts {
		h.sessions[s.Client] = s
	}
	n := len(h.clients)
	h.mu.Unlock()
	if lasts && (!had || was != s) {
		h.s.taker.Begin(s)
	}
	h.s.taker.Count(n, s.Client, !lasts || !had)
}

// OnDisconnect forgets a connection, and its session where that ends with it.
func (h *hook) OnDisconnect(cl *mochi.Client, _ error, expire bool) {
	h.mu.Lock()
	c, ok := h.clients[cl]
	delete(h.clients, cl)
	n := len(h.clients)
	last := ok && !slices.ContainsFunc(slices.Collect(maps.Values(h.clients)), func(o *Client) bool { return o.ID == c.ID })
	if last {
		delete(h.owners, c.ID)
		h.leaves++
		h.left[c.ID] = h.leaves
	}
	h.mu.Unlock()
	if !ok {
		return // it never came in, or is one of before
	}
	if expire && last { // else another connection has its client id now
		h.end(cl.ID)
	}
	h.s.taker.Count(n, "", false)
}

// OnClientExpired forgets a session that nobody came back to.
func (h *hook) OnClientExpired(cl *mochi.Client) { h.end(cl.ID) }

// end tells that a session is gone, also one that was not to last.
func (h *hook) end(client string) {
	h.mu.Lock()
	delete(h.sessions, client)
	delete(h.left, client)
	h.mu.Unlock()
	h.s.taker.End(client)
}

// OnPacketRead: of a message of QoS 2 that comes again the library would say that its
// packet id is in use; we know better whether it is stored.
func (h *hook) OnPacketRead(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Type == packets.Publish && pk.FixedHeader.Qos == 2 {
		cl.State.Inflight.Delete(pk.PacketID)
	}
	return pk, nil
}

// OnPublish gives a message on. The library is told to reject it, so it answers
// nothing: Ack does, when the message is stored.
func (h *hook) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	c := h.client(cl)
	if c == nil || h.s.cfg.Passing && !h.may(cl, pk.TopicName) {
		return pk, packets.ErrRejectPacket
	}
	if pk.FixedHeader.Qos == 2 {
		if cl.State.Inflight.Len() >= mostTwice {
			cl.Stop(packets.ErrQuotaExceeded)
			return pk, packets.ErrRejectPacket // any other answer has the library acknowledge
		}
		c.mu.Lock()
		c.twice[pk.PacketID] = true
		c.mu.Unlock()
	}
	p := &link.Packet{ID: pk.PacketID, QoS: pk.FixedHeader.Qos, Again: pk.FixedHeader.Dup, Topic: []byte(pk.TopicName), Payload: pk.Payload}
	p.Sum()
	h.s.taker.Publish(c, p)
	return pk, packets.ErrRejectPacket
}

// OnWill gives on what a device left for the case that it is gone without a word. The
// library keeps none of it: neither until later nor for whoever subscribes.
func (h *hook) OnWill(cl *mochi.Client, will mochi.Will) (mochi.Will, error) {
	if c := h.client(cl); c != nil && !strings.ContainsAny(will.TopicName, "+#") && h.may(cl, will.TopicName) {
		p := &link.Packet{Topic: []byte(will.TopicName), Payload: bytes.Clone(will.Payload), Will: true}
		p.Sum()
		h.s.taker.Publish(c, p)
	}
	cl.Properties.Will.WillDelayInterval = 0
	return mochi.Will{}, nil
}

// refuse counts who is refused, and tells a witness.
func (h *hook) refuse(who, why string) {
	h.mu.Lock()
	h.refused++
	h.mu.Unlock()
	if w, ok := h.s.taker.(Witness); ok {
		w.Refused(who, why)
	}
}

// hangUp ends all connections.
func (h *hook) hangUp() {
	h.mu.Lock()
	clients := slices.Collect(maps.Keys(h.clients))
	h.mu.Unlock()
	for _, cl := range clients {
		cl.Stop(packets.ErrServerShuttingDown)
	}
}

// Refused is how many callers, and messages, were refused since the start.
func (s *Server) Refused() uint64 {
	s.hook.mu.Lock()
	defer s.hook.mu.Unlock()
	return s.hook.refused
}

// Ack acknowledges packets that are stored: PUBACK, or PUBREC to QoS 2, whose rest the
// library does.
func (c *Client) Ack(ids []uint16) error {
	for _, id := range ids {
		ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id}
		c.mu.Lock()
		twice := c.twice[id]
		delete(c.twice, id)
		c.mu.Unlock()
		if twice {
			ack.FixedHeader.Type = packets.Pubrec
			c.c.State.Inflight.Set(ack)
		}
		if err := c.c.WritePacket(ack); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the connection.
func (c *Client) Close() { c.c.Stop(packets.ErrServerShuttingDown) }
