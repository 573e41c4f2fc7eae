package desk

import "net/http"

// Names of the cookie. A browser takes one that begins with __Host- over TLS only, for
// this host and all of its paths (OWASP ASVS 5.0 3.3.3).
const (
	cookieTLS   = "__Host-plantmesh"
	cookiePlain = "plantmesh"
)

func cookieName(r *http.Request) string {
	if r.TLS != nil {
		return cookieTLS
	}
	return cookiePlain
}

// sessionOf is the secret that a browser brings; empty: none.
func sessionOf(r *http.Request) string {
	c, err := r.Cookie(cookieName(r))
	if err != nil || len(c.Value) > 100 {
		return ""
	}
	return c.Value
}

// setSession gives a browser a secret, until it ends; an empty one takes it away.
func setSession(w http.ResponseWriter, r *http.Request, secret string) {
	//nolint:gosec // G124: Secure wherever there is TLS; without it the listener is loopback
	c := &http.Cookie{Name: cookieName(r), Value: secret, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil}
	if secret == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}
