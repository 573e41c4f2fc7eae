package torture

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	revisions "plantmesh/edge/revision"
	"plantmesh/proto/revision"
)

// r02c kills the agent wherever a configuration of the hub is written, the sources' files with
// it: each time it runs a whole one afterwards, the one before or the new one, says which, and
// ends with the new one.
func r02c(x *trial) {
	r := x.assemble(options{faulty: true})
	if err := os.Mkdir(r.path("office"), 0o700); err != nil {
		x.Fatal(err)
	}
	if err := os.Rename(r.path("edge/sources.d"), r.path("office/sources.d")); err != nil {
		x.Fatal(err)
	}
	r.hub.start()
	r.ready()
	r.edge.start()
	number := r.configure(0)
	r.await("the first configuration is in force", time.Minute, func() bool { return r.inForce(number) })
	r.flow()
	killed, before := 0, 0
	for range x.rounds {
		for _, p := range points() {
			if !p.set {
				continue
			}
			if p.name != "revision.stage.before" { // there are some files, and three states a revision: wanted, on trial, good
				p.hit += x.luck.IntN(3)
			}
			killed++
			r.edge.kill()
			r.edge.env = []string{fmt.Sprintf("PLANTMESH_FAULT=%s:exit137:hit=%d", p.name, p.hit)}
			r.edge.start()
			was := number
			number = r.configure(killed)
			if code := r.edge.wait(time.Minute); code != 137 {
				r.Errorf("at %s the agent ended with %d, want 137", p.name, code)
			}
			r.edge.env = nil
			if got := r.kept(was, number); got == was {
				before++
			}
			began := time.Now()
			r.edge.start()
			r.await("the agent says "+strconv.FormatUint(number, 10)+" is in force, killed at "+p.name, time.Minute, func() bool { return r.inForce(number) })
			x.healed(time.Since(began))
			r.kept(number, number)
		}
	}
	x.note("%d kills; %d times the one before was in force then", killed, before)
	r.settle()
}

// configure gives the agent its next configuration: the sources, and rules that say n.
func (r *rig) configure(n int) (number uint64) {
	r.Helper()
	for _, name := range []string{"a", "b"} {
		r.put("office/rules.d/"+name+".yaml", fmt.Sprintf("revision: 1\nrules:\n  - {id: %s%d, kind: range, signal: \"*.*.*\", min: %d}\n", name, n, -1_000_000-n))
	}
	out, err := ask(r.hub.path, "agents", "configure", agent, "--from", r.path("office"), "--json", "--config", r.path("hub.yaml"))
	var answer struct {
		Data struct {
			Is revision.Ref `json:"is"`
		} `json:"data"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &answer)
	}
	if err != nil || answer.Data.Is.IsZero() {
		r.Fatalf("configure the agent: %v: %.200s", err, out)
	}
	return answer.Data.Is.Number
}

// inForce says whether the hub has heard that a configuration is in force for good, with all
// its sources.
func (r *rig) inForce(number uint64) bool {
	out, err := ask(r.hub.path, "agents", "configuration", agent, "--json", "--config", r.path("hub.yaml"))
	var answer struct {
		Data struct {
			Status   revision.State     `json:"status"`
			Reported *revision.Reported `json:"reported"`
		} `json:"data"`
	}
	if err != nil || json.Unmarshal([]byte(out), &answer) != nil || answer.Data.Reported == nil {
		return false
	}
	s, ok := r.status()
	for _, source := range s.Sources {
		ok = ok && source.State == "running"
	}
	return ok && len(s.Sources) == len(r.load.feeds) && answer.Data.Status == "in_sync" && answer.Data.Reported.Number == number
}

// kept is which of two configurations is in force by the agent's disk; it must be one of
// them, and whole.
func (r *rig) kept(was, number uint64) uint64 {
	r.Helper()
	store := revisions.NewStore(r.edgeData + "/revisions")
	st, err := store.Load()
	if err != nil {
		r.Fatalf("the agent's state of revisions: %v", err)
	}
	files, err := store.Files(st.Current)
	if n := st.Current.Number; n != was && n != number || err != nil || !store.Whole(st.Current) {
		r.Errorf("on the agent's disk is %s, which was to be %d or %d: %v", st.Current, was, number, err)
	}
	said := map[string]bool{}
	for _, name := range []string{"rules.d/a.yaml", "rules.d/b.yaml"} {
		_, least, _ := strings.Cut(files[name], "min: ")
		said[least] = true
	}
	if len(said) != 1 {
		r.Errorf("%s is of two revisions: %v", st.Current, said)
	}
	return st.Current.Number
}
