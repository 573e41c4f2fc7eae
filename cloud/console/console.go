// Package console is the page of the hub: what the machines of a plant do now,
// and how well. It is the end of the walk. The page is built from web/ by
// `npm ci && npx vite build`; what came out lies in dist/, committed, so that
// building the hub needs Go alone. It takes its figures from the HTTP port,
// like any other consumer.
package console

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
)

//go:embed all:dist
var dist embed.FS

// policy lets the page load from its own address and nowhere else (OWASP ASVS
// 5.0 3.4.3).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'"

// Handler serves the page. Mount it at "/", behind the checks of the HTTP port.
func Handler() (http.Handler, error) {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil, fmt.Errorf("open the console's files: %w", err)
	}
	serve := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		// Names under assets/ carry a hash of their content; the page itself
		// must be asked for each time, or it would name assets of an old hub.
		h.Set("Cache-Control", "no-cache")
		if strings.HasPrefix(r.URL.Path, "/assets/") {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "the page is read only: use GET", http.StatusMethodNotAllowed)
			return
		}
		if r.URL.Path != "/" {
			if f, err := fs.Stat(files, strings.TrimPrefix(r.URL.Path, "/")); err != nil || f.IsDir() {
				http.Error(w, "nothing is here; the page is at /", http.StatusNotFound)
				return
			}
		}
		serve.ServeHTTP(w, r)
	}), nil
}
