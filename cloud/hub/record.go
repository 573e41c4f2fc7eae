package hub

import (
	"cmp"
	"strings"

	"plantmesh/cloud/access"
	"plantmesh/cloud/audit"
)

// recordChange puts a change of who may do what on record. Where it fails the change is
// not made.
func recordChange(cfg Config, c access.Change) error {
	trail, err := openTrail(cfg)
	if err != nil {
		return err
	}
	_, err = trail.Append(audit.Change{
		Who: c.Who, Via: audit.Via(cmp.Or(c.Via, string(audit.Stranger))), Address: c.Address, Action: actionOf(c.Action), Object: c.Object,
		Before: c.Before, After: c.After, Reason: c.Reason,
	})
	return err
}

// actionOf is what somebody did as the trail has it, the thing first, so that all that
// was done to one begins alike: "add user" is user.add, "fail to sign in" sign.in.failed.
func actionOf(words string) string {
	words, failed := strings.CutPrefix(words, "fail to ")
	verb, thing, ok := strings.Cut(words, " ")
	if ok && verb != "sign" {
		words = thing + " " + verb
	}
	if failed {
		words += " failed"
	}
	return strings.ReplaceAll(words, " ", ".")
}
