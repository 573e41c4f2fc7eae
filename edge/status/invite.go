package status

import (
	"context"
	"net/http"
)

// Invitation is a link that lets one browser in, once.
type Invitation struct {
	URL   string `json:"url"`
	Until string `json:"until"`
}

// Inviter lets browsers look at the local page. Safe for concurrent use.
type Inviter interface {
	Invite() (Invitation, error)
}

func serveInvite(mux *http.ServeMux, i Inviter) {
	mux.HandleFunc("POST /page/invite", func(w http.ResponseWriter, _ *http.Request) {
		got, err := i.Invite()
		give(w, got, err)
	})
}

// Invite has the agent behind the socket at path let one browser in.
func Invite(ctx context.Context, path string) (Invitation, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	return take[Invitation](ctx, path, http.MethodPost, "/page/invite")
}
