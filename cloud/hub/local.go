package hub

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/cloud/audit"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
)

// ErrNotRunning is returned for what a running hub alone can do.
var ErrNotRunning = errors.New("the hub is not running")

const (
	// socketName is where commands on the hub's machine speak to it: who may open it
	// owns the hub.
	socketName = "hub.sock"
	// longestSocket is what the system takes as a socket's name (unix(7), 108 with its end).
	longestSocket = 107
	// callWithin bounds a command's call; what it changes is synced several times.
	callWithin = time.Minute
	// maxCall bounds an answer.
	maxCall = 64 << 20
	// userHead names the user of the system who types a command.
	userHead = "Plantmesh-User"
)

// local answers commands on this machine until ctx ends.
func (h *hub) local(ctx context.Context) error {
	path, free, err := socketAt(h.cfg.Data)
	if err != nil {
		return err
	}
	defer free()
	if err := unused(ctx, path, filepath.Join(h.cfg.Data, socketName)); err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("%w: open the socket for commands in %s: %w", ErrListen, h.cfg.Data, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("%w: open the socket for commands: %w", ErrListen, errors.Join(err, l.Close()))
	}
	machines := desk.Machines{
		Plant: h.sites, Who: localUser, Log: h.log,
		May: func(*http.Request, string, string) error { return nil }, Anywhere: func(*http.Request, string) error { return nil },
	}
	mux := http.NewServeMux()
	for pattern, handler := range machines.Handlers() {
		mux.HandleFunc(pattern, handler)
	}
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: headWithin, ReadTimeout: callWithin, WriteTimeout: callWithin, MaxHeaderBytes: maxHead,
		ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("answer commands: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(gctx), stopWithin)
		defer cancel()
		return srv.Shutdown(stop)
	})
	return g.Wait()
}

// localUser is who types a command, by what the command says: who may open the socket could
// write the hub's files, too.
func localUser(r *http.Request) registry.Actor {
	return registry.Actor{Who: cmp.Or(r.Header.Get(userHead), "unknown"), Via: string(audit.CLI)}
}

// socketAt is the socket's name. Where the folder's is too long for one it goes by the open
// folder; free lets go of that.
func socketAt(data string) (path string, free func(), err error) {
	path = filepath.Join(data, socketName)
	if len(path) <= longestSocket {
		return path, func() {}, nil
	}
	dir, err := os.Open(data)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), socketName), func() { _ = dir.Close() }, nil
}

// unused removes a socket that a killed hub left. The data folder's lock says that no
// other one runs.
func unused(ctx context.Context, path, shown string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%w: %s is no socket, and the hub's socket for commands belongs there: move it away", ErrData, shown)
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrData, err)
	}
	return ctx.Err()
}

// ChangeError is what a running hub says why it did not do something.
type ChangeError struct {
	Status int
	Detail string
	Faults []plant.Fault
}

func (e *ChangeError) Error() string { return e.Detail }

// Call has the hub that runs on the data folder answer a request, as the user who runs
// this.
func Call(ctx context.Context, cfg Config, method, to, kind string, body []byte) ([]byte, error) {
	path, free, err := socketAt(cfg.Data)
	if err != nil {
		return nil, fmt.Errorf("%w on %s", ErrNotRunning, cfg.Data)
	}
	defer free()
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://hub"+to, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask the hub: %w", err)
	}
	req.Header.Set(userHead, Operator())
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: %s is another user's: run this as the hub's user", ErrData, filepath.Join(cfg.Data, socketName))
	case err != nil && ctx.Err() == nil:
		return nil, fmt.Errorf("%w on %s: nobody answers at %s", ErrNotRunning, cfg.Data, socketName)
	case err != nil:
		return nil, fmt.Errorf("ask the hub: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxCall))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("ask the hub: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return b, nil
	}
	var said struct {
		Detail string        `json:"detail"`
		Faults []plant.Fault `json:"faults"`
	}
	if json.Unmarshal(b, &said) != nil || said.Detail == "" {
		said.Detail = "the hub says " + resp.Status + " " + strings.TrimSpace(string(b[:min(len(b), 200)]))
	}
	return nil, &ChangeError{resp.StatusCode, said.Detail, said.Faults}
}
