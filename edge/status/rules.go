package status

import (
	"context"
	"encoding/json"
	"net/http"
)

// RulesInForce is the rule set by which the agent judges now.
type RulesInForce struct {
	Content []byte `json:"content"` // as descriptors of it have it; empty: there are no rules
}

func serveRules(mux *http.ServeMux, rules func() []byte) {
	mux.HandleFunc("GET /rules", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(RulesInForce{rules()}) // the asker went away: nobody to tell
	})
}

// AskRules asks the agent behind the socket at path by which rules it judges.
func AskRules(ctx context.Context, path string) (RulesInForce, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	return take[RulesInForce](ctx, path, http.MethodGet, "/rules")
}
