package main

import (
	"bufio"
	"errors"
	"os"
	"strings"

	"plantmesh/edge/check"
	"plantmesh/proto/answer"
)

// repair does what a report has as repairs, once they are listed and somebody agrees. It says
// whether anything was done.
func (c *checkCmd) repair(p *answer.Printer, report *check.Report) (done bool, err error) {
	all := report.Repairs()
	if len(all) == 0 {
		p.Say("note: nothing of this repairs itself: what helps stands beside each finding\n")
		return false, nil
	}
	p.Say("What can be repaired, and by what:\n")
	for _, r := range all {
		p.Say("  %s\n", r.Does)
	}
	if !c.Yes {
		if err := agreed(p); err != nil {
			return false, err
		}
	}
	var failed []error
	for _, r := range all {
		failed = append(failed, r.Do())
	}
	if err := errors.Join(failed...); err != nil {
		return true, &answer.Error{Code: answer.Data, Message: strings.ReplaceAll(err.Error(), "\n", "; "), Hint: "do it by hand, as the user to whom it belongs"}
	}
	p.Say("done; checked again:\n")
	return true, nil
}

// agreed asks whoever sits there.
func agreed(p *answer.Printer) error {
	refused := &answer.Error{Code: answer.Confirm, Message: "nothing was repaired: nobody has agreed", Hint: "look at what would be done, then say the same with --yes"}
	if !terminal(os.Stdin) {
		return refused
	}
	p.Ask("Do it? [y/N] ")
	said, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(said)), "y") {
		return refused
	}
	return nil
}
