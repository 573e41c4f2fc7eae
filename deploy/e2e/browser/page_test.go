package browser

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// text is what is written in the first element with a test id; "" where none is.
func text(id string) string {
	return `(document.querySelector('[data-testid="` + id + `"]')?.innerText ?? '').replace(/\s+/g, ' ')`
}

// look opens the page of a made-up hub and waits for its tiles.
func look(t *testing.T, h *hub, hash string) (ctx context.Context) {
	t.Helper()
	chromium(t)
	ctx = tab(t)
	run(ctx, t, chromedp.EmulateViewport(1440, 900))
	visit(ctx, t, h.serve(t)+hash)
	until(ctx, t, 20*time.Second, "the plant", text("counts"), func(s string) bool { return s != "" })
	return ctx
}

// says waits until the element with a test id says every one of the words.
func says(ctx context.Context, t *testing.T, id string, words ...string) string {
	t.Helper()
	return until(ctx, t, 15*time.Second, id+" to say "+strings.Join(words, ", "), text(id), func(s string) bool {
		for _, w := range words {
			if !strings.Contains(s, w) {
				return false
			}
		}
		return true
	})
}

// silentOn fails where the element says one of the words.
func silentOn(ctx context.Context, t *testing.T, id string, words ...string) {
	t.Helper()
	s := run(ctx, t, chromedp.Evaluate[string](text(id)))
	for _, w := range words {
		if strings.Contains(s, w) {
			t.Errorf("%s says %q in %q", id, w, s)
		}
	}
}

func TestPage_AddressOfNoMachine(t *testing.T) {
	for _, hash := range []string{"#x", "#%"} {
		t.Run(hash, func(t *testing.T) {
			ctx := look(t, newHub(), hash)
			says(ctx, t, "note", "no machine “"+hash[1:]+"”")
			says(ctx, t, "freshness", "Live")
			if got := run(ctx, t, chromedp.Evaluate[string](`location.hash`)); got != "" {
				t.Errorf("the address still names %q", got)
			}
			silentOn(ctx, t, "disconnected", "Trying again")
			shoot(ctx, t, "no-machine")
			run(ctx, t, chromedp.Evaluate[string](`location.hash = 'nobody'`))
			says(ctx, t, "note", "“nobody”")
			run(ctx, t, chromedp.Evaluate[string](`location.hash = 'line1-filler'`))
			until(ctx, t, 10*time.Second, "the note to go", text("note"), func(s string) bool { return s == "" })
		})
	}
}

func TestPage_DetailThatFailsFailsAlone(t *testing.T) {
	h := newHub()
	h.broken = "equipment-state"
	ctx := look(t, h, "#line1-filler")
	says(ctx, t, "detail-trouble", "the disk of the hub is full")
	says(ctx, t, "freshness", "Live")
	silentOn(ctx, t, "disconnected", "full")
	h.mu.Lock()
	h.broken = ""
	h.mu.Unlock()
	run(ctx, t, chromedp.Click(`[data-testid="detail-trouble"] button`))
	says(ctx, t, "timeline", "Early shift")
}

func TestPage_ClaimsOnlyWhatIsTrueNow(t *testing.T) {
	h := newHub()
	ctx := look(t, h, "")
	const calm = "Nothing needs a person now"
	says(ctx, t, "attention", calm, "12 running")

	h.set(func() { h.behind = 17 * time.Hour })
	says(ctx, t, "attention", "As of", "19:47")
	silentOn(ctx, t, "attention", calm, "Needs a look")
	says(ctx, t, "catching-up", "33 of 50 h")
	h.set(func() { h.behind = 0 })
	says(ctx, t, "attention", calm)

	for _, l := range []string{"line1-", "line2-", "line3-"} { // two run, two have just stopped, eight wait
		for i, k := range kinds {
			cause := "external"
			if i == 0 && l != "line1-" {
				cause = "none"
			} else if i == 0 || i == 1 && l == "line1-" {
				cause = "internal"
			}
			h.state(l+k, ago(20*time.Second), nil, cause)
		}
	}
	h.set(func() {})
	says(ctx, t, "attention", "2 running, 8 waiting, 2 stopped", "Short stops and waits only")
	silentOn(ctx, t, "attention", calm, "well")

	h.state("line1-filler", ago(3*time.Minute), nil, "internal")
	h.state("line2-labeller", ago(11*time.Minute), nil, "external")
	h.state("line2-filler", ago(90*time.Minute), nil, "changeover")
	h.set(func() {})
	says(ctx, t, "attention", "Needs a look", "Stopped Line 1 1filler", "Waiting Line 2 2labeller", "1 in changeover")
	silentOn(ctx, t, "attention", "1capper", "2filler")

	// A breakdown whose cause changes is still one stop.
	h.state("line3-capper", ago(6*time.Minute), ago(5*time.Minute), "failure")
	h.state("line3-capper", ago(5*time.Minute), ago(20*time.Second), "operator")
	h.state("line3-capper", ago(20*time.Second), nil, "internal")
	h.set(func() {})
	says(ctx, t, "attention", "Stopped Line 3 3capper 6 min")
	says(ctx, t, "machine-line3-capper", "Stopped for 6 min")

	h.set(func() { h.gone = true })
	says(ctx, t, "attention", "As of 12:47", "Line 1 1filler")
	silentOn(ctx, t, "attention", calm, "Needs a look")
	says(ctx, t, "disconnected", "not from now")
}

func TestPage_SaysThatTheRecordOfChangesIsDamaged(t *testing.T) {
	h := newHub()
	h.trail = `{"data":[],"broken":{"file":"00000000000000000001.jsonl","line":7,"n":7,"what":"has other bytes than were recorded"}}`
	ctx := look(t, h, "")
	says(ctx, t, "damage", "The record of who changed what is damaged", "00000000000000000001.jsonl, entry 7 has other bytes than were recorded")
	says(ctx, t, "freshness", "Live")
}

func TestPage_SilentSourceIsNoLag(t *testing.T) {
	h := newHub()
	h.behind = 5 * time.Minute // the hub's progress is that of the silent source
	h.sources = []source{{"line1-opcua", 5 * time.Minute, true}, {"line2-opcua", 0, false}, {"line3-opcua", 7 * time.Second, false}}
	ctx := look(t, h, "")
	says(ctx, t, "machine-line1-filler", "No data since 12:42")
	silentOn(ctx, t, "machine-line1-filler", "Running", "for 49")
	says(ctx, t, "machine-line2-filler", "Running")
	says(ctx, t, "attention", "Needs a look", "No data Line 1 1filler since 12:42", "8 running, 4 without data")
	says(ctx, t, "freshness", "Live")
	silentOn(ctx, t, "catching-up", "Catching up")
	shoot(ctx, t, "silent-source")
	run(ctx, t, chromedp.Evaluate[string](`location.hash = 'line1-filler'`))
	says(ctx, t, "gaps", "12:42 to now: nothing is heard of this machine")
	silentOn(ctx, t, "gaps", "everything")
	shoot(ctx, t, "silent-machine")

	h.set(func() {
		h.sources = []source{{"line1-opcua", 5 * time.Minute, true}, {"line2-opcua", 5 * time.Minute, false}, {"line3-opcua", 0, false}}
	})
	says(ctx, t, "catching-up", "Catching up")
	h.set(func() {
		h.sources = []source{{"line1-opcua", 5 * time.Minute, true}, {"line2-opcua", 4 * time.Minute, true}, {"line3-opcua", 6 * time.Minute, true}}
	})
	says(ctx, t, "freshness", "No machine is heard")
	says(ctx, t, "counts", "12 without data")
}

// At the first start one product has rows of days ago while another has not begun:
// nothing is silent for that, and what is shown is of those days.
func TestPage_AProductThatHasNotBegunIsNoSilence(t *testing.T) {
	h := newHub()
	h.unbegun = "oee"
	h.sources = []source{{"line1-opcua", 43 * time.Hour, false}, {"line2-opcua", 43 * time.Hour, false}, {"line3-opcua", 43 * time.Hour, false}}
	h.behind = 43 * time.Hour
	for _, l := range []string{"line1-", "line2-", "line3-"} {
		for _, k := range kinds {
			h.state(l+k, ago(43*time.Hour+20*time.Second), nil, "none")
		}
	}
	ctx := look(t, h, "")
	says(ctx, t, "catching-up", "Catching up")
	says(ctx, t, "machine-line2-filler", "Running")
	silentOn(ctx, t, "machine-line2-filler", "1 d")
	silentOn(ctx, t, "freshness", "No machine is heard")
}

func TestPage_WhatEndedIsNotRunning(t *testing.T) {
	h := newHub()
	h.rows["coverage"] = []any{object{"source": "line3-opcua", "from": ago(7 * time.Minute), "to": nil, "seconds": nil, "cause": "died", "count": 0, "note": nil}}
	h.state("line1-filler", ago(time.Hour), ago(10*time.Minute), "none")
	h.state("line1-capper", ago(8*time.Minute), nil, "unknown")
	ctx := look(t, h, "")
	says(ctx, t, "machine-line1-filler", "No data since 12:37")
	says(ctx, t, "machine-line1-capper", "No data since 12:39")
	says(ctx, t, "machine-line3-filler", "No data since 12:40") // its source has an open gap
	says(ctx, t, "attention", "Needs a look", "6 running, 6 without data")
	h.set(func() { h.rows["equipment-state"] = h.rows["equipment-state"][:0] })
	says(ctx, t, "counts", "12 without data")
	silentOn(ctx, t, "machine-line1-filler", "Running")
}

func TestPage_FirstHourOfASmallSite(t *testing.T) {
	h := newHub()
	h.site = object{"site": "graz", "zone": "Europe/Vienna", "reasons": nil, "lines": []any{
		object{"id": "hall", "machines": []any{object{"id": "press", "name": "", "kind": "", "source": "s"}, object{"id": "saw12", "name": "", "kind": "", "source": "s"}}},
	}}
	h.rows = map[string][]any{}
	h.state("press", ago(16*time.Minute), nil, "none")
	for _, w := range []string{"hour", "day"} {
		h.oee("press", w, object{"coverage_ratio": 0.34})
	}
	h.state("saw12", ago(16*time.Minute), nil, "none")
	h.oee("saw12", "hour", nil)
	ctx := look(t, h, "#press")
	says(ctx, t, "machine-press", "press", "65 % OEE Mon 2 Mar so far")
	says(ctx, t, "machine-saw12", "saw12", "65 % OEE hour 12:00 so far")
	silentOn(ctx, t, "machine-saw12", "first hour of this shift")
	says(ctx, t, "detail", "Hall press", "Where Mon 2 Mar went", "What stopped it most on Mon 2 Mar")
	says(ctx, t, "gaps", "Before Mon 2 Mar 12:31 nothing was collected", "Since then everything this machine did is known")
	label := run(ctx, t, chromedp.Evaluate[string](`document.querySelector('[data-testid="oee-chart"]').getAttribute('aria-label')`))
	if !strings.Contains(label, "from Mon 2 Mar, 06:50 to Mon 2 Mar, 13:00") {
		t.Errorf("the axis of a chart with one hour: %s", label)
	}
	// The one bar stands at the right end of that axis.
	const bar = `(() => {
		const c = document.querySelector('[data-testid="oee-chart"] canvas')
		const d = c.getContext('2d').getImageData(0, Math.floor(c.height / 2), c.width, 1).data
		const at = []
		for (let i = 0; i < c.width; i++) if (d[4 * i] === 0xa9 && d[4 * i + 1] === 0xb8) at.push(i / c.width)
		return at.length + ' pixels from ' + Math.min(...at).toFixed(2)
	})()`
	until(ctx, t, 10*time.Second, "a bar at the right end", bar, func(s string) bool { return strings.Contains(s, "from 0.8") })
	shoot(ctx, t, "first-hour")
	h.oee("press", "hour", object{"coverage_ratio": 0.5, "from": ago(10 * time.Minute)})
	h.set(func() {})
	says(ctx, t, "gaps", "Not all is known")
	silentOn(ctx, t, "gaps", "everything this machine did")
}

func TestPage_FiguresSpeakForThemselves(t *testing.T) {
	h := newHub()
	h.slow = make(chan struct{})
	h.oee("line1-capper", "shift", object{
		"effectiveness_ratio": nil, "effectiveness_reason": "no ideal rate for product pils-050", "oee_ratio": nil, "oee_reason": "no ideal rate for product pils-050",
	})
	h.oee("line1-labeller", "shift", object{"quality_ratio": nil, "quality_reason": "nothing produced"})
	chromium(t)
	ctx := tab(t)
	run(ctx, t, chromedp.EmulateViewport(390, 844))
	visit(ctx, t, h.serve(t))
	until(ctx, t, 10*time.Second, "a page that loads", text("loading"), func(s string) bool { return s != "" })
	// The hub has said what time it is, but not yet in which zone that is told.
	for range 5 {
		if s := run(ctx, t, chromedp.Evaluate[string](text("clock"))); s != "" {
			t.Fatalf("a clock before its zone is known: %s", s)
		}
		run(ctx, t, chromedp.Evaluate[bool](`new Promise(r => setTimeout(() => r(true), 150))`, chromedp.EvalAwaitPromise))
	}
	close(h.slow)
	says(ctx, t, "clock", "12:47")
	// In an hour with a break: 2,600 pieces in 20 planned minutes.
	says(ctx, t, "machine-line1-filler", "This hour OEE 65 %, 2,600 pieces 7,800 of 12,000 per planned h")
	says(ctx, t, "machine-line1-capper", "No OEE early shift so far: no ideal rate for product pils-050")
	says(ctx, t, "machine-line1-labeller", "Quality – nothing produced")
	until(ctx, t, 10*time.Second, "no sideways scrolling", wide, func(s string) bool { return s == "0" })
	if s := run(ctx, t, chromedp.Evaluate[string](whole)); !strings.Contains(s, "performance (ISO 22400: effectiveness)") {
		t.Error("the page does not say what ISO 22400 calls performance")
	}
}

// Who is signed in no more is led to the login, and from there back; who may see a part
// only is told so.
func TestPage_WhoMayNotLook(t *testing.T) {
	h := newHub()
	ctx := look(t, h, "#line1-filler")
	says(ctx, t, "freshness", "Live")
	h.set(func() { h.refuses = http.StatusForbidden })
	says(ctx, t, "disconnected", "you may see a part of it only")
	h.set(func() { h.refuses = http.StatusUnauthorized })
	until(ctx, t, 30*time.Second, "the login", "location.pathname + location.search", func(at string) bool { return at == "/login?next=%2F%23line1-filler" })
}
