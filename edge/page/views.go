package page

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// view is what a template is given.
type view struct {
	Title string
	At    string // which page it is
	Nonce string
	Look  Look
	Now   string
	Used  bool // the link was one once

	Checks *Checks
	Wrong  string // why the checks did not run
	Busy   bool   // they run
}

// checks are how they went last. Safe for concurrent use.
type checks struct {
	mu   sync.Mutex // protects what follows
	last *Checks
	busy bool
}

func (c *checks) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.busy
	c.busy = true
	return !was
}

func (c *checks) end(got *Checks) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	if got != nil {
		c.last = got
	}
}

func (c *checks) state() (*Checks, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, c.busy
}

// write fills a template in and answers with it: whole, or not at all.
func (p *Page) write(w http.ResponseWriter, code int, name string, v view) {
	v.Nonce, _ = newKey()
	v.Now = p.doors.now().UTC().Format("2006-01-02 15:04:05 UTC")
	v.At = name
	var b bytes.Buffer
	if err := p.views.ExecuteTemplate(&b, name+".html", v); err != nil {
		http.Error(w, "this page can't be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; style-src 'nonce-%s'; script-src 'nonce-%s'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'", v.Nonce, v.Nonce))
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // who asked went away: nobody to tell
}

// show is one of the pages.
func (p *Page) show(name string) http.HandlerFunc {
	titles := map[string]string{"overview": "Overview", "sources": "Sources", "live": "Live", "buffer": "Buffer", "checks": "Checks"}
	return func(w http.ResponseWriter, _ *http.Request) {
		v := view{Title: titles[name], Look: p.gateway.Look()}
		v.Checks, v.Busy = p.checks.state()
		p.write(w, http.StatusOK, name, v)
	}
}

// check runs the checks, one run at a time.
func (p *Page) check(w http.ResponseWriter, r *http.Request) {
	v := view{Title: "Checks", Look: p.gateway.Look()}
	if p.checks.begin() {
		ctx, cancel := context.WithTimeout(r.Context(), checkWithin)
		defer cancel()
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(checkWithin + writeWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			p.checks.end(nil)
			return
		}
		got, err := p.gateway.Check(ctx)
		if err != nil {
			v.Wrong = err.Error()
			p.checks.end(nil)
		} else {
			p.checks.end(&got)
		}
	}
	v.Checks, v.Busy = p.checks.state()
	p.write(w, http.StatusOK, "checks", v)
}

// stream tells values as they are stored, as server-sent events.
func (p *Page) stream(w http.ResponseWriter, r *http.Request) {
	out := http.NewResponseController(w)
	begun := false
	err := p.gateway.Listen(r.Context(), r.URL.Query().Get("pattern"), func(values []Value) error {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "text/event-stream")
		}
		if err := out.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		b, err := json.Marshal(values)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", b); err != nil {
			return err
		}
		return out.Flush()
	})
	if err != nil && !begun {
		http.Error(w, err.Error(), http.StatusConflict)
	}
}
