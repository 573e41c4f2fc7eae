package status

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// An agent that goes on while its program file was replaced may be asked for what it does not
// know, and would leave that out: each answer says what its agent knows beyond the first.
const (
	knowsHeader = "Plantmesh-Knows"
	knowsWindow = "window" // buffer export and peek take a window of event times
	knowsRaw    = "raw"    // tap tells values as their machine said them
)

// ErrOlder is returned where the agent that runs is of before what it is asked for.
var ErrOlder = errors.New("the agent that runs is of before this program")

// knowing says in each answer what this agent knows.
func knowing(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(knowsHeader, knowsWindow+" "+knowsRaw)
		h.ServeHTTP(w, r)
	})
}

// knows is an error where the agent doesn't know what.
func knows(r *http.Response, what string) error {
	if slices.Contains(strings.Fields(r.Header.Get(knowsHeader)), what) {
		return nil
	}
	return fmt.Errorf("%w, and does not know this yet: start it anew", ErrOlder)
}
