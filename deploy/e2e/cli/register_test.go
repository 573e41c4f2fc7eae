package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRegister_ByHand registers machines as an operator does, while the hub runs: one out
// of the inbox, whose rows of before count; a table with errors and without; a line like
// another one. A hub that starts again knows all of it.
func TestRegister_ByHand(t *testing.T) {
	t.Parallel()
	dir, ports := checkout(t), otherPorts(t)
	in := func(name string) string { return filepath.Join(dir, "my-plant", "hub", name) }
	var hub *process
	url, serve := "", ""
	for _, line := range readme(t, "Set it up by hand") {
		line = ports.Replace(line)
		if after, ok := strings.CutPrefix(line, "curl -s "); ok {
			url = strings.Replace(strings.Trim(after, "'"), "press-1", "packer-1", 1)
			continue
		}
		if strings.Contains(line, " status ") {
			continue
		}
		p := typed(t, dir, line)
		switch {
		case strings.HasPrefix(line, "cp "):
			replaceIn(t, filepath.Join(dir, "my-plant"), ports)
			strike(t, in("site.yaml"), "id: packer-1")
		case strings.HasPrefix(line, "bin/plantmesh serve"):
			hub, serve = p, line
		}
	}
	machines := func(command string, args ...string) result {
		t.Helper()
		return run(t, nil, "plantmesh", append([]string{"machines", command, "--config", in("hub.yaml")}, args...)...)
	}
	well := func(r result, want ...string) {
		t.Helper()
		for _, w := range want {
			if r.code != 0 || !strings.Contains(r.out+r.err, w) {
				t.Fatalf("exit code %d, want %q in\n%s%s", r.code, w, r.out, r.err)
			}
		}
	}
	var inbox result
	until(t, time.Minute, "the packer is in the inbox", func() bool {
		inbox = machines("inbox")
		return strings.Contains(inbox.out, "packer\thall1.packer.\t5 signals")
	})
	well(inbox, "packml-machine@1.1.0 5/8", "Next:  plantmesh machines approve --config", "packer hall1.packer.")
	plan := in("packer.csv")
	if err := os.WriteFile(plan, []byte("id,line,name,kind,owner\npacker-1,hall1,Packer,packer,anna\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	well(machines("import", "--valid-from", "always", plan), "packer-1\tnew")
	well(machines("list", "packer-1"), "planned")
	well(machines("inbox"), "packer-1, which is planned\tpackml-machine@1.1.0 5/8")
	well(machines("approve", "--valid-from", "always", "packer", "hall1.packer."), "packer-1\tapproved", "register 2, for all of time")
	until(t, time.Minute, "there is a row of the packer", func() bool { return strings.Contains(get(t, url), ",586,") })
	if body := get(t, url); !strings.Contains(body, "1.0.0+2") {
		t.Errorf("its rows don't say which mapping they are of:\n%s", body)
	}

	table := in("table.csv")
	for name, text := range map[string]string{
		"bad.csv":   "id,line,name,model\nhall3-saw,hall3,Saw,packml-machine\nHall 3,hall3,Saw,\nhall3-mill,hall3,Mill,mill\n",
		"table.csv": "id,line,name,external_ids.maximo\nhall3-saw,hall3,Saw,A-77\n",
	} {
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{in("bad.csv")}, {"--dry-run", in("bad.csv")}} {
		if r := machines("import", args...); r.code != exitFindings || !strings.Contains(r.err, "[register.refused]") || !strings.Contains(r.out+r.err, `row 3, Hall 3, id: "Hall 3" is no id`) || !strings.Contains(r.out+r.err, `there is no model "mill"`) {
			t.Errorf("%v: exit code %d\n%s%s", args, r.code, r.out, r.err)
		}
	}
	well(machines("import", "--dry-run", table), "hall3-saw\tnew", "1 rows: 1 new")
	well(machines("list"), "packer-1\thall1")
	well(machines("import", table), "1 rows: 1 new")
	well(machines("import", table), "1 as they were")
	well(machines("clone", "hall1", "hall2"), "hall2-press-1, hall2-packer-1\tas hall1", "register 4")
	if r := machines("clone", "hall1", "hall2"); r.code != exitFindings || !strings.Contains(r.err, "is registered already") {
		t.Errorf("exit code %d\n%s", r.code, r.err)
	}
	well(machines("add", "--change", "--owner", "emil", "hall2-press-1"), "hall2-press-1\tchanged")
	modelRules(t, filepath.Join(dir, "my-plant"))

	two := in("two.yaml")
	if err := os.WriteFile(two, []byte("shifts:\n  - {id: long, start: \"07:00\", end: \"19:00\", days: [mon-thu, sat]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	calendars := func(command string, args ...string) result {
		t.Helper()
		return run(t, nil, "plantmesh", append([]string{"calendars", command, "--config", in("hub.yaml")}, args...)...)
	}
	well(calendars("set", "--dry-run", "--line", "hall2", "two", two), "of line hall2", "it could be so")
	well(calendars("set", "--line", "hall2", "two", two), "long 07:00-19:00 mon-thu,sat", "register 10")
	well(calendars("list"), "site\tof the site\tEurope/Vienna, days from 06:00, early 06:00-14:00", "two\tof line hall2", "  hall2-packer-1, hall2-press-1\n")
	well(calendars("show", "two"), `"lines": [`, `"mon-thu"`)
	well(machines("show", "hall2-press-1"), "calendar two", "1 shifts, calendar two")
	if r := calendars("set", "plant", two); r.code != exitFindings || !strings.Contains(r.err, "the site's calendar stands in the site file") {
		t.Errorf("exit code %d\n%s", r.code, r.err)
	}
	well(machines("list", "--line", "hall3", "--site", "graz"), "hall3-saw")

	hub.signal(interrupt)
	if code := hub.ends(20 * time.Second); code != 0 {
		t.Fatalf("the hub ends with %d", code)
	}
	if r := machines("retire", "hall2-press-1"); r.code != exitState || !strings.Contains(r.err, "[daemon.not_running]") || !strings.Contains(r.err, "Next:  plantmesh serve") {
		t.Errorf("without a hub: exit code %d\n%s", r.code, r.err)
	}
	typed(t, dir, serve)
	well(machines("list"), "packer-1\thall1\tsource packer\t5 signals", "hall3-saw\thall3\tsource none yet\t0 signals, 0 of their roles\tplanned", "hall2-press-1")
	well(machines("show", "packer-1"), `"owner": "anna"`, "from the register, at graz/hall1/packer-1", "ok  calendar", "--  external_ids")
	well(machines("export"), "id,site,area,line,name,kind,model,owner,source,signals_prefix,external_ids.maximo", "hall3-saw,graz,,hall3,Saw", "emil")
	well(machines("retire", "--reason", "sold", "hall2-press-1"), "hall2-press-1\tretired", "register 11")
	planned(t, calendars, two)
	well(calendars("remove", "two"), "two\tremoved", "register 14")
	well(run(t, nil, "plantmesh", "audit", "list", "--config", in("hub.yaml")), "machine.add", "machine.import", "machine.clone", "machine.change", "machine.retire", "sold", "calendar.set", "calendar.remove")
	well(run(t, nil, "plantmesh", "audit", "verify", "--config", in("hub.yaml")))
	well(run(t, nil, "plantmesh", "models", "list", "--config", in("hub.yaml")), "packml-machine@1.1.0\tMachine with PackML states and counters\t10 properties\t1 machines")
}

// strike takes the lines with a text out of a file.
func strike(t *testing.T, path, text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, text) {
			out.WriteString(line)
		}
	}
	if out.Len() == len(b) {
		t.Fatalf("%s has no %s", path, text)
	}
	if err := os.WriteFile(path, []byte(out.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// planned registers a calendar that is still to come, and takes it out again.
func planned(t *testing.T, calendars func(string, ...string) result, file string) {
	t.Helper()
	vienna, err := time.LoadLocation("Europe/Vienna")
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now().Add(72 * time.Hour).Truncate(time.Hour)
	begins := "from " + from.In(vienna).Format("Mon 2006-01-02 15:04")
	for _, c := range []struct {
		command string
		args    []string
		want    string
	}{
		{"set", []string{"--valid-from", from.Format(time.RFC3339), "--line", "hall3", "soon", file}, "register 12, from " + from.UTC().Format(time.RFC3339) + " on"},
		{"list", nil, "soon\tof line hall3\tlong 07:00-19:00 mon-thu,sat, 0 breaks\t" + begins},
		{"show", []string{"soon"}, `"hall3"`},
		{"remove", []string{"soon"}, "register 13, from " + from.UTC().Format(time.RFC3339) + " on"},
	} {
		if r := calendars(c.command, c.args...); r.code != 0 || !strings.Contains(r.out, c.want) {
			t.Errorf("%s: exit code %d, want %q\n%s%s", c.command, r.code, c.want, r.out, r.err)
		}
	}
	if r := calendars("list"); strings.Contains(r.out, "soon") {
		t.Error(r.out)
	}
}
