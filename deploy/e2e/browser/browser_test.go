// Package browser looks at the hub's page as people do: in a real Chromium, on
// a phone and on a desk, while a real demo runs behind it.
package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"plantmesh/deploy/e2e/programs"
	"plantmesh/proto/meshtest"
)

// What the demo promises, doubled: a slow machine must not make a red test,
// a broken page must.
const (
	movesWithin   = 2 * 20 * time.Second
	historyWithin = 2 * 60 * time.Second
)

// required reports whether this suite must not skip.
func required() bool {
	return slices.Contains(strings.Split(os.Getenv("PLANTMESH_REQUIRE"), ","), "browser")
}

func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	if required() {
		t.Fatal("no Chromium here, and PLANTMESH_REQUIRE asks for the browser suite: install Debian's package chromium")
	}
	t.Skip("no Chromium here: install Debian's package chromium to look at the page")
	return ""
}

// binaries builds the programs a demo is made of.
func binaries(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := programs.Into(t.Context(), dir, "plantmesh", "plantmesh-edge", "firmware-sim"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// vacant is an address that nobody listens at.
func vacant(t *testing.T) string {
	t.Helper()
	return meshtest.Vacant(t)
}

// demo starts a demo whose page is at address. history closes when the history
// is there; stop ends the demo, at the latest the end of the test does.
func demo(t *testing.T, bin, address string, args ...string) (history <-chan struct{}, stop func()) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "plantmesh"), append([]string{"demo", "--listen", address}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done, first := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(out); s.Scan(); {
			if strings.HasPrefix(s.Text(), "first OEE") {
				close(first)
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the demo ended: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Errorf("stop the demo: %v", err)
		}
		<-done
	})
	t.Cleanup(stop)
	return first, stop
}

// await waits for the history of a demo.
func await(t *testing.T, history <-chan struct{}) {
	t.Helper()
	select {
	case <-history:
	case <-time.After(historyWithin):
		t.Fatalf("the history is not there after %s", historyWithin)
	}
}

// visit opens an address whose server may not listen yet.
func visit(ctx context.Context, t *testing.T, url string) {
	t.Helper()
	for end := time.Now().Add(movesWithin); ; {
		bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := chromedp.Run(bounded, chromedp.Navigate(url))
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// tab opens a browser window; errors of the page fail the test.
func tab(t *testing.T) context.Context {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-sync", true), chromedp.UserDataDir(t.TempDir()))
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), opts...) // it outlives the test's context, to close in order
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	if err := chromedp.Listen(ctx, func(ev any) {
		if e, ok := ev.(*runtime.EventExceptionThrown); ok {
			t.Errorf("the page threw: %s: %v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// run runs one action within 30 seconds.
func run[T any](ctx context.Context, t *testing.T, a chromedp.Action[T]) T {
	t.Helper()
	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	v, err := chromedp.Run(bounded, a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// until asks the page again and again until ok likes the answer.
func until(ctx context.Context, t *testing.T, within time.Duration, what, expression string, ok func(string) bool) string {
	t.Helper()
	end := time.Now().Add(within)
	for {
		v := run(ctx, t, chromedp.Evaluate[string](expression))
		if ok(v) {
			return v
		}
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s; the page says %q", within, what, v)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// shoot keeps a picture for people where PLANTMESH_SHOTS names a folder.
func shoot(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("PLANTMESH_SHOTS")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), run(ctx, t, chromedp.FullScreenshot(100)), 0o600); err != nil {
		t.Error(err)
	}
}

// unheard reports whether the rows know of time without data of a machine.
func unheard(t *testing.T, address, machine, source string) bool {
	t.Helper()
	for product, in := range map[string]func(row) bool{
		"coverage":        func(r row) bool { return r.Source == source },
		"equipment-state": func(r row) bool { return r.Equipment == machine && r.Cause == "unknown" },
	} {
		answer, err := http.Get("http://" + address + "/api/v1/products/" + product + "/rows?from=-48h&limit=10000&equipment=" + machine)
		if err != nil {
			t.Fatal(err)
		}
		var page struct{ Data []row }
		err = json.NewDecoder(answer.Body).Decode(&page)
		if err = errors.Join(err, answer.Body.Close()); err != nil || answer.StatusCode != http.StatusOK {
			t.Fatal(answer.Status, err)
		}
		if slices.ContainsFunc(page.Data, in) {
			return true
		}
	}
	return false
}

// row is what is asked of a row of coverage or equipment-state.
type row struct{ Equipment, Source, Cause string }

const (
	tiles  = `[...document.querySelectorAll('[data-testid^="machine-"]')].map(e => e.innerText.replace(/\s+/g, ' ')).join('|')`
	states = `[...document.querySelectorAll('[data-testid="state"]')].map(e => e.innerText).join('|')`
	oees   = `[...document.querySelectorAll('[data-testid="oee"]')].map(e => e.innerText.replace(/\s+/g, ' ')).join('|')`
	whole  = `document.body.innerText.replace(/\s+/g, ' ')`
	wide   = `String(document.documentElement.scrollWidth - document.documentElement.clientWidth)`
)

func TestPage_ShowsAPlantThatMoves(t *testing.T) {
	chromium(t)
	address := vacant(t)
	history, _ := demo(t, binaries(t), address)
	began := time.Now()
	ctx := tab(t)
	run(ctx, t, chromedp.EmulateViewport(1440, 900))
	visit(ctx, t, "http://"+address+"/")
	stop := follow(t, address)
	full := func(s string) bool { return len(strings.Split(s, "|")) == 12 && !strings.Contains(s, "||") }
	until(ctx, t, movesWithin-time.Since(began), "twelve machines with a state in words", states, full)
	before := run(ctx, t, chromedp.Evaluate[string](tiles))
	until(ctx, t, movesWithin, "a value that moves", tiles, func(s string) bool { return full(s) && s != before })
	t.Logf("moving values after %.1f s", time.Since(began).Seconds())
	shoot(ctx, t, "desk-early")
	await(t, history)
	t.Logf("history after %.1f s", time.Since(began).Seconds())
	until(ctx, t, 30*time.Second, "an OEE in percent on every machine", oees, func(s string) bool { return strings.Count(s, "%") >= 12 })
	until(ctx, t, 30*time.Second, "the end of catching up", `String(document.querySelector('[data-testid="catching-up"]')?.innerText ?? '')`, func(s string) bool { return s == "" })
	until(ctx, t, 30*time.Second, "a page that calls itself live", text("freshness"), func(s string) bool { return strings.Contains(s, "Live") })
	if stop() == 0 {
		t.Error("the feed never said that it has caught up")
	}

	for _, screen := range []struct {
		name          string
		width, height int64
	}{{"desk", 1440, 900}, {"phone", 390, 844}} {
		t.Run(screen.name, func(t *testing.T) {
			run(ctx, t, chromedp.EmulateViewport(screen.width, screen.height))
			run(ctx, t, chromedp.Evaluate[string](`location.hash = ''`)) // whatever the screen before left open
			until(ctx, t, 10*time.Second, "no sideways scrolling", wide, func(s string) bool { return s == "0" })
			shoot(ctx, t, screen.name)
			run(ctx, t, chromedp.Click(`[data-testid="machine-line1-filler"]`))
			for _, id := range []string{"timeline", "oee-chart", "rate-chart", "gaps"} {
				until(ctx, t, 20*time.Second, id, fmt.Sprintf(`String((document.querySelector('[data-testid="%s"]')?.getBoundingClientRect().height ?? 0) > 10)`, id), func(s string) bool { return s == "true" })
			}
			// Two days of a plant that starts now may hold such a stretch, or none.
			listed := run(ctx, t, chromedp.Evaluate[bool](`document.querySelector('[data-testid="gaps"] li') !== null`))
			if want := unheard(t, address, "line1-filler", "line1-opcua"); listed != want {
				t.Errorf("time without data is listed: %t; the rows say %t", listed, want)
			}
			until(ctx, t, 10*time.Second, "no sideways scrolling in the detail", wide, func(s string) bool { return s == "0" })
			shoot(ctx, t, screen.name+"-machine")
			run(ctx, t, chromedp.KeyEvent("\u001b"))
		})
	}
}

// A tab that is left open must show the hub that answers now, and nothing of
// the one that was there before.
func TestPage_ForgetsTheHubOfBefore(t *testing.T) {
	chromium(t)
	bin, address := binaries(t), vacant(t)
	ctx := tab(t)
	run(ctx, t, chromedp.EmulateViewport(1440, 900))
	_, stop := demo(t, bin, address, "--start", "2026-06-09T12:00:00Z")
	visit(ctx, t, "http://"+address+"/#line1-filler")
	shows := func(what string) func(string) bool { return func(s string) bool { return strings.Contains(s, what) } }
	until(ctx, t, historyWithin, "figures of June", text("detail"), shows("Jun so far"))
	stop()
	until(ctx, t, 30*time.Second, "the break", whole, shows("What you see is from"))
	shoot(ctx, t, "hub-gone")
	demo(t, bin, address, "--start", "2026-03-10T12:00:00Z")
	until(ctx, t, historyWithin, "figures of March", text("detail"), shows("Mar so far"))
	if s := run(ctx, t, chromedp.Evaluate[string](whole)); strings.Contains(s, "Jun") {
		t.Errorf("the page still shows June, of the hub before: %s", s)
	}
}
