package sim

import (
	"fmt"
	"strings"
)

// op is what can happen next.
type op uint8

const (
	opEmit op = iota
	opTake
	opCommit
	opAcknowledge
	opSend
	opReceive
	opDeliver
	opRemind
	opLook
	opPurge
	opAssemble
	opPort
	opWait
	// What follows breaks something.
	opDropDevice
	opKillWorker
	opCut
	opConnect
	opKillAgent
	opCrashAgent
	opPowerAgent
	opStartAgent
	opFailSync
	opCopyDisk
	opRestoreDisk
	opDamage
	opQuarantine
	opClone
	opStopClone
	opKillHub
	opCrashHub
	opPowerHub
	opStartHub
	opFailCommit
	opBackup
	opRestoreHub
	opLeader
	opZombie
	opStreamGone
	opStreamBack
	opPublishFails
	opHarm
	ops
)

func (o op) String() string {
	return [...]string{
		"emit", "take", "commit", "acknowledge", "send", "receive", "deliver", "remind", "look", "purge", "assemble", "port", "wait",
		"drop device", "kill worker", "cut", "connect", "kill agent", "crash agent", "power off agent", "start agent", "fail sync",
		"copy disk", "restore disk", "damage segment", "quarantine", "clone", "stop clone", "kill hub", "crash hub", "power off hub", "start hub",
		"fail commit", "backup", "restore hub", "change leader", "zombie", "stream made anew", "stream goes back", "publish fails", "harm",
	}[o]
}

// event is one thing that happens. n is its own luck.
type event struct {
	op op
	n  uint64
}

func (e event) String() string { return fmt.Sprintf("%s %x", e.op, e.n) }

// plan is a schedule: what a seed is.
type plan struct {
	seed   uint64
	small  bool // the agent's budget is small
	drops  bool // a full buffer drops its oldest, or thins out where harm is odd
	keep   bool // received records stay in the buffer
	harm   int  // percent of messages something happens to, at first
	events []event
}

const planLine = "plan small=%t drops=%t keep=%t harm=%d\n"

// String is the schedule as testdata/regressions.txt has it.
func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, planLine, p.small, p.drops, p.keep, p.harm)
	for _, e := range p.events {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}

// fault groups, taken in or left out as a whole by each seed: a schedule in
// which everything breaks at once explores less than one in which few things
// break often.
var groups = [][]op{
	{opDropDevice, opKillWorker},
	{opCut, opConnect, opCut, opConnect},
	{opKillAgent, opStartAgent, opCrashAgent, opStartAgent},
	{opPowerAgent, opStartAgent},
	{opFailSync, opPowerAgent, opStartAgent},
	{opKillHub, opStartHub, opCrashHub, opStartHub},
	{opPowerHub, opStartHub, opFailCommit},
	{opBackup, opRestoreHub, opZombie, opZombie},
	{opLeader, opZombie},
	{opCrashHub, opStartHub, opFailCommit, opStreamGone},
	{opStreamGone, opStreamBack},
	{opHarm, opHarm},
	{opPublishFails, opPort},
	{opCopyDisk, opRestoreDisk, opStartAgent},
	{opDamage, opQuarantine},
	{opClone, opStopClone, opCut, opConnect, opWait},
}

// rare are the groups that may cost data, so that the rule "nothing at all is
// lost" is tried more often than "what is lost is named".
const rareFrom = 13

// ordinary events, as often as they come.
var ordinary = []op{
	opEmit, opEmit, opEmit, opEmit, opTake, opTake, opTake, opCommit, opCommit, opCommit, opAcknowledge, opAcknowledge,
	opSend, opSend, opSend, opSend, opReceive, opReceive, opDeliver, opDeliver, opDeliver, opRemind, opLook, opPurge,
	opAssemble, opAssemble, opPort, opWait, opWait,
}

// newPlan makes the schedule of a seed.
func newPlan(seed uint64) plan {
	l := luck(seed * 0x2545f4914f6cdd1d)
	p := plan{seed: seed, small: l.below(4) == 0, keep: l.below(2) == 0}
	p.drops = p.small && l.below(2) == 0
	if l.below(3) == 0 {
		p.harm = 3 + l.below(30)
	}
	var faults []op
	for i, g := range groups {
		if most := 3; i >= rareFrom && l.below(5) == 0 || i < rareFrom && l.below(most) == 0 {
			faults = append(faults, g...)
		}
	}
	for _, o := range faults {
		if o == opBackup { // the retention floor covers the backup's age
			p.keep = true
		}
	}
	size, often := 30+l.below(90), 5+l.below(12)
	if l.below(8) == 0 {
		size *= 2
	}
	for range size {
		o := ordinary[l.below(len(ordinary))]
		if len(faults) > 0 && l.below(often) == 0 {
			o = faults[l.below(len(faults))]
		}
		p.events = append(p.events, event{o, l.next()})
	}
	return p
}
