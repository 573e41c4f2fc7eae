// Package status answers, on a local socket, how the agent is: plain words and
// counts for the person at the gateway. It opens no network port.
package status

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/proto/revision"
	"plantmesh/proto/strict"
)

// Snapshot is how the agent is at one moment.
type Snapshot struct {
	Agent string `json:"agent"`
	Site  string `json:"site"`
	Since string `json:"since"` // RFC 3339: when this run began
	// DebugUntil is until when the log has everything; empty: it has what it always has.
	DebugUntil string   `json:"debug_until,omitempty"`
	Hub        Hub      `json:"hub"`
	Buffer     Buffer   `json:"buffer"`
	Disk       Disk     `json:"disk"`
	Sources    []Source `json:"sources"`
	// Endings are certificates that end soon, or have.
	Endings []Ending `json:"endings,omitempty"`
	// Configuration is how the hub's stands; absent: it has none for this gateway.
	Configuration *revision.Reported `json:"configuration,omitempty"`
	// Findings are what was lost of late, and what needs somebody; empty: all is well.
	Findings []Finding `json:"findings,omitempty"`
}

// Ending is a certificate that ends soon, or has.
type Ending struct {
	What  string `json:"what"`
	Until string `json:"until"`
	Days  int    `json:"days_left"` // whole days; negative: it has ended
	Fix   string `json:"fix"`
}

// Hub is the link to the hub.
type Hub struct {
	URL       string `json:"url"`
	Proxy     string `json:"proxy,omitempty"` // host:port of the one it is called through
	Connected bool   `json:"connected"`
	LastError string `json:"last_error,omitempty"`
	Since     string `json:"since,omitempty"` // when the connection came, or went
}

// Buffer is what waits on this gateway's disk.
type Buffer struct {
	Bytes    int64  `json:"bytes"`
	MaxBytes int64  `json:"max_bytes"`
	Segments int    `json:"segments"`
	End      string `json:"end"`
	Pending  uint64 `json:"pending_records"` // not yet accounted for by the hub
	// AutonomyHours is for how long everything is kept while the hub takes
	// nothing, at the rate of the last day (of this run, where that is shorter);
	// null: too early to say.
	AutonomyHours *float64 `json:"autonomy_hours"`
	BytesPerHour  float64  `json:"bytes_per_hour"`
	OldestPending string   `json:"oldest_pending,omitempty"` // event time at which the oldest segment with such records begins
	// StateLost are sources that started anew in this run because their state
	// was damaged on the disk.
	StateLost []string `json:"state_lost,omitempty"`
	// Damages are segments and records that could not be read in this run.
	Damages int `json:"damages,omitempty"`
	// Damaged is when the last of them was found.
	Damaged string `json:"damaged_at,omitempty"`
	// Losses are the values that were written off within the last 24 hours, in this run or
	// one before it.
	Losses []Loss `json:"losses,omitempty"`
	// SetAside are the records that wait in quarantine for somebody to release or drop them.
	SetAside int `json:"set_aside,omitempty"`
}

// Loss is what one cause has taken of one source within the last 24 hours.
type Loss struct {
	Source string `json:"source"` // empty: nobody knows whose, or of more sources than are counted
	Cause  string `json:"cause"`
	Count  uint64 `json:"count"` // values; 0: of records on the disk that can't be read nobody knows how many
	Since  string `json:"since"`
	Last   string `json:"last"`
}

// Source is one device.
type Source struct {
	Source     string `json:"source"`
	State      string `json:"state"` // in plain words
	Since      string `json:"since"`
	Down       string `json:"down_since,omitempty"` // since when it is not read; empty: it is
	Says       string `json:"says,omitempty"`       // the reader's own latest word, as "not connected: connection refused"
	Restarts   int    `json:"restarts"`
	LastError  string `json:"last_error,omitempty"`
	Samples    uint64 `json:"samples"`
	Bytes      uint64 `json:"bytes"`
	ProvenTo   string `json:"proven_to,omitempty"`
	LastCommit string `json:"last_commit,omitempty"`
	// Aside says why the source is set aside; null: it isn't.
	Aside *Aside `json:"aside,omitempty"`
	// Voids says by cause what could not be kept since this run began.
	Voids map[string]Voided `json:"voids,omitempty"`
	// Troubles are the reasons why it was not connected since this run began, the newest last.
	Troubles []Trouble `json:"troubles,omitempty"`
}

// Trouble is one reason why a source was not connected.
type Trouble struct {
	Says  string `json:"says"`
	Times int    `json:"times"`
	First string `json:"first"`
	Last  string `json:"last"`
}

// Aside is why a source is set aside, and how it comes back.
type Aside struct {
	Reason string `json:"reason"`
	Since  string `json:"since"`
	Deaths int    `json:"deaths"` // of its worker in a row, of that cause
	Next   string `json:"next"`   // when it is tried again by itself
	Resume string `json:"resume"` // the command that has it tried at once
}

// Voided is what one cause has taken.
type Voided struct {
	Voids  uint64 `json:"voids"`            // records that say so
	Count  uint64 `json:"count"`            // values they speak of, where known
	Latest string `json:"latest,omitempty"` // the newest reason, with a few bytes of what came
	Last   string `json:"last,omitempty"`   // when values were last written off; empty: their number is not known
}

// link is where the hub is called, and how that stands.
func (h *Hub) link() string {
	out := h.URL
	if h.Proxy != "" {
		out += " through the proxy " + h.Proxy
	}
	if h.Connected {
		out += " connected"
	} else {
		out += " not connected: buffering"
	}
	if h.LastError != "" {
		out += " (" + h.LastError + ")"
	}
	return out
}

// Print writes the snapshot for a person.
func (s Snapshot) Print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "agent    %s at %s, up since %s\nhub      %s\n", s.Agent, s.Site, s.Since, s.Hub.link())
	if err != nil {
		return err
	}
	if s.DebugUntil != "" {
		if _, err := fmt.Fprintf(w, "log      everything until %s\n", s.DebugUntil); err != nil {
			return err
		}
	}
	if err := s.Buffer.Print(w); err != nil {
		return err
	}
	if err := s.Disk.print(w); err != nil {
		return err
	}
	if s.Configuration != nil {
		if err := PrintConfiguration(w, s.Configuration); err != nil {
			return err
		}
	}
	for _, src := range s.Sources {
		if err := src.print(w); err != nil {
			return err
		}
	}
	for _, e := range s.Endings {
		if _, err := fmt.Fprintf(w, "ends     %s, at %s, %d days left: %s\n", e.What, e.Until, e.Days, e.Fix); err != nil {
			return err
		}
	}
	for _, f := range s.Findings {
		if _, err := fmt.Fprintf(w, "%-8s %s; what helps: %s\n", f.word(), f.What, f.Fix); err != nil {
			return err
		}
	}
	return nil
}

func (s Source) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "source   %-20s %s since %s, %d samples, proven to %s, %d restarts\n",
		s.Source, s.State, s.Since, s.Samples, cmp.Or(s.ProvenTo, "nothing yet"), s.Restarts)
	lines := [][2]string{{"says", s.Says}, {"error", s.LastError}}
	if a := s.Aside; a != nil {
		lines = append(lines, [2]string{"aside", "since " + a.Since + ", tried again at " + a.Next + "; or at once by: " + a.Resume})
	}
	for _, line := range lines {
		if line[1] != "" && err == nil {
			_, err = fmt.Fprintf(w, "  %-6s %s\n", line[0], line[1])
		}
	}
	for _, cause := range slices.Sorted(maps.Keys(s.Voids)) {
		if v := s.Voids[cause]; err == nil {
			_, err = fmt.Fprintf(w, "  void   %-20s %d values in %d stretches; latest: %s\n", cause, v.Count, v.Voids, v.Latest)
		}
	}
	return err
}

const (
	askWithin  = 5 * time.Second
	maxAnswer  = 4 << 20
	headWithin = 5 * time.Second
)

// Check says what is wrong with a socket's path: something else stands there.
func Check(path string) error {
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&fs.ModeSocket == 0 {
		return &strict.Fault{File: path, What: "status in edge.yaml names this, and it is no socket; name a path where nothing stands, or remove it yourself"}
	}
	return nil
}

// Answers are what a running agent can be asked for. Those that are nil are asked for by
// nobody.
type Answers struct {
	Snapshot func() Snapshot
	Keeper   Keeper
	Resumer  Resumer
	Talker   Talker
	Tapper   Tapper
	Aside    Quarantiner
	Replayer Replayer
	Inviter  Inviter

	Commander Commander
	Rules     func() []byte // the rule set by which is judged now, as descriptors of it have it
}

// Serve answers on the socket at path until ctx ends. A socket left behind by
// a killed agent is replaced; nothing else is.
func Serve(ctx context.Context, path string, of Answers) error {
	if err := replace(ctx, path); err != nil {
		return fmt.Errorf("open the status socket: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("open the status socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("open the status socket: %w", errors.Join(err, l.Close()))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(of.Snapshot()) // the asker went away: nobody to tell
	})
	serveBuffer(mux, of.Keeper)
	servePeek(mux, of.Keeper)
	serveResume(mux, of.Resumer)
	serveTalk(mux, of.Talker)
	serveTap(mux, of.Tapper)
	serveQuarantine(mux, of.Aside)
	serveReplay(mux, of.Replayer)
	serveInvite(mux, of.Inviter)
	serveCommands(mux, of.Commander)
	serveRules(mux, of.Rules)
	srv := &http.Server{Handler: knowing(mux), ReadHeaderTimeout: headWithin}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("answer on the status socket: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		return srv.Close()
	})
	return g.Wait()
}

// replace removes a socket that nobody answers on.
func replace(ctx context.Context, path string) error {
	if err := Check(path); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if c, err := (&net.Dialer{}).DialContext(ctx, "unix", path); err == nil {
		return errors.Join(fmt.Errorf("another program answers at %s", path), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Ask asks the agent behind the socket at path.
func Ask(ctx context.Context, path string) (s Snapshot, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	resp, err := call(ctx, path, http.MethodGet, "/status")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to its end
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&s); err != nil {
		return s, fmt.Errorf("ask the agent: %w", err)
	}
	return s, nil
}

// call sends one request to the agent; the caller closes the answer.
func call(ctx context.Context, path, method, to string) (*http.Response, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+to, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // whatever it could say
		return nil, errors.Join(fmt.Errorf("the agent says: %s", strings.TrimSpace(string(said))), resp.Body.Close())
	}
	return resp, nil
}
