package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// modelRules has the packer be of a model with a range, sends what that means to its
// gateway, as an operator does, and sees it judge there. my-plant runs.
func modelRules(t *testing.T, plant string) {
	t.Helper()
	config, edge := filepath.Join(plant, "hub", "hub.yaml"), filepath.Join(plant, "gateway", "edge.yaml")
	hub := func(args ...string) result {
		t.Helper()
		r := run(t, nil, "plantmesh", append(args, "--config", config)...)
		if r.code != 0 {
			t.Fatalf("%q: exit code %d\n%s%s", args, r.code, r.out, r.err)
		}
		return r
	}
	model := filepath.Join(plant, "packer.yaml")
	for version, most := range map[string]string{"1.0.0": "max: 400", "1.1.0": "max: 100000"} {
		text := "id: hall-packer\nversion: \"" + version + "\"\nproperties:\n  - {name: state, kind: measurement, role: state}\n  - {name: produced, kind: measurement, role: produced, " + most + "}\n" +
			"  - {name: oil_raw, kind: measurement}\n  - {name: oil, kind: transform, of: oil_raw, scale: 0.1, offset: " + strings.TrimPrefix(most, "max: ") + "}\n"
		if err := os.WriteFile(model, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		hub("models", "add", model)
	}
	hub("machines", "add", "--change", "--model", "hall-packer@1.0.0", "packer-1")
	const missing = "rules of model hall-packer@1.0.0 not on gw-1 yet"
	if r := hub("machines", "list", "packer-1"); !strings.Contains(r.out, missing) || !strings.Contains(r.err, "--rules-from-models gw-1") {
		t.Errorf("%s%s", r.out, r.err)
	}
	if r := hub("machines", "rules", "--agent", "gw-1"); !strings.Contains(r.out, "# "+missing) || !strings.Contains(r.out, `  - id: "packer-1.produced.range"`) {
		t.Errorf("%s", r.out)
	}
	if r := hub("agents", "configure", "--rules-from-models", "--dry-run", "gw-1"); !strings.Contains(r.out, "rules.d/models.yaml\tadded") || !strings.Contains(r.out, "nothing is done") {
		t.Errorf("%s", r.out)
	}
	hub("agents", "configure", "--rules-from-models", "gw-1")
	until(t, time.Minute, "the rules are on the gateway", func() bool {
		return strings.Contains(hub("machines", "show", "packer-1").out, "ok  rules        3 of model hall-packer@1.0.0 on gw-1")
	})
	if r := hub("machines", "show", "packer-1"); !strings.Contains(r.out, "left out: oil: no signal of the machine is oil_raw") || !strings.Contains(r.out, "--  transforms   oil is not made") {
		t.Errorf("%s", r.out)
	}
	if r := run(t, nil, "plantmesh-edge", "rules", "list", "--config", edge); r.code != 0 || !strings.Contains(r.out, "packer-1.produced.range") || !strings.Contains(r.out, "rules.d/models.yaml:") {
		t.Errorf("exit code %d\n%s%s", r.code, r.out, r.err)
	}
	if r := run(t, nil, "plantmesh-edge", "rules", "backtest", "--config", edge); r.code != 0 || !strings.Contains(r.out, "packer-1.produced.range in hall1.packer.produced of packer: ") {
		t.Errorf("exit code %d\n%s%s", r.code, r.out, r.err)
	}
	for _, r := range []result{hub("models", "diff", "hall-packer", "1.0.0", "1.1.0"), hub("models", "upgrade", "--dry-run", "hall-packer", "1.1.0"), hub("models", "upgrade", "hall-packer", "1.1.0")} {
		if !strings.Contains(r.out, "rule produced.range\n  - max 400\n  + max 100000\n") || !strings.Contains(r.out, " oil\n  - transform, of oil_raw, scale 0.1, offset 400\n  + transform, of oil_raw, scale 0.1, offset 100000\n") {
			t.Errorf("%s%s", r.out, r.err)
		}
	}
	if r := hub("agents", "configure", "--rules-from-models", "gw-1"); !strings.Contains(r.out, "-    max: 400") || !strings.Contains(r.out, "+    max: 100000") {
		t.Errorf("%s%s", r.out, r.err)
	}
}
