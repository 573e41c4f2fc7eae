package sim

import (
	"maps"
	"slices"
)

// fault is a kind of fault, counted when it really struck.
type fault uint8

const (
	faultMessageLost fault = iota
	faultPubAckLost
	faultMessageLate
	faultMessageForgotten
	faultMessageDoubled
	faultMessageReordered
	faultMessageDamaged
	faultReceiptLost
	faultReceiptDoubled
	faultReceiptReordered
	faultLateData
	faultRedelivered
	faultDeviceAckLost
	faultDeviceDropped
	faultWorkerKilled
	faultBufferFull
	faultCut
	faultAgentKilled
	faultAgentCrashed
	faultAgentPower
	faultSyncFailed
	faultDiskBack
	faultSegmentDamaged
	faultQuarantined
	faultCloned
	faultHubKilled
	faultHubCrashed
	faultHubPower
	faultCommitFailed
	faultHubRestored
	faultLeaderChanged
	faultZombie
	faultStreamGone
	faultStreamBack
	faultPublishFailed
	faultPortAhead
	faultDropped
	faults
)

func (f fault) String() string {
	return [...]string{
		"message lost", "publish acknowledgement lost", "message late", "message forgotten", "message doubled", "message reordered", "message damaged",
		"receipt lost", "receipt doubled", "receipt reordered", "late data", "note redelivered", "device acknowledgement lost", "device dropped",
		"worker killed", "buffer full", "cut", "agent killed", "agent crashed between writes", "agent power loss", "sync failed", "disk went back",
		"segment damaged", "record quarantined", "disk cloned", "hub killed", "hub crashed between writes", "hub power loss", "commit failed",
		"hub restored", "leader changed", "zombie spoke", "stream made anew", "stream went back", "publish failed", "port ahead of a restored hub", "oldest dropped by the buffer",
	}[f]
}

func (w *world) breakAgent(o op, l *luck) {
	a := w.one(l)
	switch o {
	case opDropDevice:
		if a.up() {
			w.hit(faultDeviceDropped)
			a.reader.dropped()
		}
	case opKillWorker:
		if a.up() {
			w.hit(faultWorkerKilled)
			if r, err := newReader(a, a.d); err == nil {
				a.reader = r
			}
		}
	case opCut:
		if a.link.up {
			w.hit(faultCut)
			w.cut(a)
		}
	case opConnect:
		w.connect(a)
	case opStartAgent:
		w.startAgent(a)
		w.connect(a)
	case opKillAgent:
		if a.up() {
			w.hit(faultAgentKilled)
			w.stopAgent(a)
		}
	case opCrashAgent:
		a.tap.crashIn, a.power = 1+l.below(24), l.below(2) == 0
	case opPowerAgent:
		w.hit(faultAgentPower)
		w.stopAgent(a)
		a.disk.powerLoss(l.next())
	case opFailSync:
		a.tap.failIn, a.tap.failHow = 1+l.below(2), howFails(l.below(int(failKinds)))
		w.hit(faultSyncFailed)
	default:
		w.breakDisk(o, a, l)
	}
}

// breakDisk has disks go back, be copied, and rot: what may cost data.
func (w *world) breakDisk(o op, a *agent, l *luck) {
	switch o {
	case opCopyDisk:
		w.copied = a.disk.image()
	case opRestoreDisk:
		if w.copied == nil {
			return
		}
		w.hit(faultDiskBack)
		w.costly, w.twice, w.revised = true, true, true
		w.stopAgent(a)
		a.disk = w.copied.image()
		a.disk.tap = &a.tap
	case opDamage:
		names := slices.Sorted(maps.Keys(a.disk.files))
		if len(names) == 0 {
			return
		}
		w.hit(faultSegmentDamaged)
		w.costly, w.twice, w.revised = true, true, true
		a.disk.files[names[l.below(len(names))]].damaged = true
	case opQuarantine:
		if !a.up() {
			return
		}
		// A record that never passes, it turns out.
		records, err := a.buf.Peek(w.hubThrough(), 1<<10)
		if err != nil || len(records) == 0 {
			return
		}
		w.hit(faultQuarantined)
		w.costly, w.revised = true, true
		if err := a.buf.Quarantine(records[l.below(len(records))].At, "it can never pass"); err != nil {
			w.tell("    not quarantined: %v", err)
		}
	case opClone:
		if len(w.agents) > 1 {
			return
		}
		w.hit(faultCloned)
		w.cloned, w.twice, w.revised = true, true, true
		c := w.newAgent("d1", a.disk.image())
		c.disk.tap = &c.tap
		w.startAgent(c)
		w.connect(c)
	default:
		if len(w.agents) > 1 {
			w.stopAgent(w.agents[1])
		}
	}
}

func (w *world) breakHub(o op, l *luck) {
	switch o {
	case opKillHub:
		if w.hub != nil {
			w.hit(faultHubKilled)
			w.stopHub()
			w.cutAll(l)
		}
	case opCrashHub:
		w.tap.crashIn, w.power = 1+l.below(12), l.below(2) == 0
	case opPowerHub:
		w.hit(faultHubPower)
		w.stopHub()
		w.store.powerLoss()
		w.cutAll(l)
	case opStartHub:
		w.startHub()
	case opFailCommit:
		w.tap.failIn, w.tap.failHow = 1+l.below(3), howFails(l.below(int(failKinds)))
		w.hit(faultCommitFailed)
	case opBackup:
		w.backup = w.store.image()
	case opRestoreHub:
		w.restoreHub(l)
	case opLeader:
		if w.hub != nil {
			w.hit(faultLeaderChanged)
			w.zombie, w.hub = w.hub, nil
			w.startHub()
		}
	case opZombie:
		w.haunt(l)
	case opStreamGone:
		w.hit(faultStreamGone)
		w.stream.renew()
	case opStreamBack:
		w.hit(faultStreamBack)
		w.stream.back(1 + l.below(4))
	case opPublishFails:
		w.port.failIn, w.port.stored = 1+l.below(4), l.below(2) == 0
		w.hit(faultPublishFailed)
	default:
		w.stream.harm = 0
		if l.below(4) > 0 {
			w.stream.harm = 5 + l.below(50)
		}
	}
}

// cutAll cuts the agents' links, or leaves them open: a hub can go and come
// behind a connection.
func (w *world) cutAll(l *luck) {
	if l.below(2) == 0 {
		for _, a := range w.agents {
			w.cut(a)
		}
	}
}

// restoreHub puts an older copy of the database in place; the process that had
// the newer one goes on for a while.
func (w *world) restoreHub(l *luck) {
	if w.backup == nil {
		return
	}
	w.hit(faultHubRestored)
	// A buffer that is half full keeps nothing for a hub that goes back.
	w.revised, w.costly = true, w.costly || w.small
	old := w.hub
	if w.hub != nil && w.hub.store == w.store {
		w.zombie = w.hub
		w.store.tap = &tap{}
	}
	if w.hub != nil && l.below(2) == 0 {
		w.hit(faultPortAhead)
		w.ahead = w.hub.port
	}
	w.stopHub()
	w.store = w.backup.image()
	w.store.tap = &w.tap
	w.cutAll(l)
	if old != nil && l.below(3) > 0 {
		w.startHub()
	}
}

// haunt has a hub of a life before do something.
func (w *world) haunt(l *luck) {
	if w.zombie == nil || w.zombie == w.hub {
		return
	}
	w.hit(faultZombie)
	switch l.below(4) {
	case 0:
		w.deliver(w.zombie, 1+l.below(6))
	case 1:
		w.remind(w.zombie)
	case 2:
		w.assemble(w.zombie)
	default:
		if w.zombie.store == w.store {
			w.publish(w.zombie)
		}
	}
}
