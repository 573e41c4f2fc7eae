//go:build faultinject

package fault

import (
	"errors"
	"testing"
)

func TestParse(t *testing.T) {
	for _, bad := range []string{"x", "x:sleep", "x:err:hit=0", "x:err:3", "x:err:hit=1:more"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestDue(t *testing.T) {
	p, err := parse("x:err:hit=2")
	if err != nil {
		t.Fatal(err)
	}
	if p.due("y") || p.due("x") || !p.due("x") || p.due("x") {
		t.Error("not the second passing alone")
	}
	if p, err = parse("x:err:hit=2+"); err != nil {
		t.Fatal(err)
	}
	if p.due("x") || !p.due("x") || !p.due("x") {
		t.Error("not from the second passing on")
	}
}

func TestErr(t *testing.T) {
	t.Setenv("PLANTMESH_FAULT", "here:err")
	if err := Err("there"); err != nil {
		t.Error(err)
	}
	if err := Err("here"); !errors.Is(err, ErrInjected) {
		t.Errorf("got %v", err)
	}
}
