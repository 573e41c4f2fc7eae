// Package browse walks through the address space of an OPC UA server, tells each
// node once, and recognises machines in it. Whatever the server answers, what is
// asked for, kept and told is bounded, and each bound that is met is named.
package browse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// Caller makes requests within a session that somebody else opened. The error is
// the server's status (ua.StatusCode) where it gives one. Safe for concurrent use.
type Caller interface {
	Call(ctx context.Context, req ua.Request) (ua.Response, error)
}

// Bounds where a Config says nothing.
const (
	defaultNodes = 100_000
	defaultDepth = 32
	defaultText  = 32 << 20
	// maxName is the longest browse name that is shown whole (OPC 10000-3 §8.3: 512 characters).
	maxName = 512
	// maxID is the longest identifier of a node (OPC 10000-3 §8.2.4: 4096 characters).
	maxID = 4096
	// maxNotes bounds what is told beside the nodes.
	maxNotes = 20
)

// Config says what is walked through.
type Config struct {
	Start    string        // node to begin below: i=85 (Objects) where it is empty; nsu=URI;s=ID
	Depth    int           // levels below it, at most; 0: 32
	MaxNodes int           // nodes told, at most; 0: 100,000
	MaxText  int           // bytes of names and node ids, at most; 0: 32 MiB
	Within   time.Duration // how long it may take; 0: as long as ctx lives

	Methods bool           // methods are told too
	Details bool           // data types, access and units of variables are read
	Values  bool           // their values too
	Filter  *regexp.Regexp // what is read and picked: names that match; nil: all
	Spaces  string         // and those whose namespace URI contains this
	Class   string         // and those of this class; empty: any
}

// Node is one node, as it was told.
type Node struct {
	ID        string `json:"id"`             // as a source file takes it: nsu=URI;s=ID
	Name      string `json:"name"`           // browse name, without its namespace
	Namespace string `json:"namespace"`      // URI of the browse name's namespace
	Class     string `json:"class"`          // object, variable or method
	Type      string `json:"type,omitempty"` // node id of the type definition
	Parent    int    `json:"parent"`         // place of the parent among the nodes told; -1: the start
	Depth     int    `json:"depth"`          // 0: below the start

	// Of variables, where details are asked for.
	DataType string `json:"data_type,omitempty"` // in words
	Kind     string `json:"kind,omitempty"`      // type of a signal in a source file; empty: none fits
	Array    bool   `json:"array,omitempty"`
	Access   string `json:"access,omitempty"` // r, w, rw or -: none
	Unit     string `json:"unit,omitempty"`   // UNECE Rec 20 common code, or what the server calls it
	Value    *Value `json:"value,omitempty"`

	Picked bool `json:"-"` // filter, namespace and class of the Config let it through

	node *ua.NodeID
	unit *ua.NodeID // its property EngineeringUnits
}

// Value is what a variable was read as.
type Value struct {
	Text   string     `json:"text"`   // at most 200 bytes of it
	Status string     `json:"status"` // as OPC UA calls it
	Source *time.Time `json:"source_time,omitempty"`
	Server *time.Time `json:"server_time,omitempty"`
}

// Summary is how a walk ended.
type Summary struct {
	Nodes      int      `json:"nodes"`
	Requests   int      `json:"requests"` // browse and read requests made
	Stopped    []string `json:"stopped"`  // each bound that was met, in words
	Notes      []string `json:"notes"`    // what could not be looked at, in words
	Namespaces []string `json:"namespaces"`
	Seconds    float64  `json:"seconds"`
}

// walker is one walk. Its fields belong to the goroutine that walks.
type walker struct {
	c      Caller
	cfg    Config
	tell   func(*Node) error
	server server
	types  types

	seed    maphash.Seed
	seen    map[uint64]struct{} // hashes of the node ids that were claimed: 64 bits, seeded
	text    int                 // bytes of names and ids claimed
	told    int
	full    bool // a bound of the whole walk is met
	stopped []string
	notes   []string
	began   time.Time
}

// errLate ends a walk early without being a failure.
var errLate = errors.New("the walk has taken as long as it may")

// Walk tells every node below the start, parents before their children. With an
// error the Summary says how far it came.
func Walk(ctx context.Context, c Caller, cfg Config, tell func(*Node) error) (Summary, error) {
	cfg.Depth, cfg.MaxNodes, cfg.MaxText = cmp.Or(cfg.Depth, defaultDepth), cmp.Or(cfg.MaxNodes, defaultNodes), cmp.Or(cfg.MaxText, defaultText)
	w := &walker{c: c, cfg: cfg, tell: tell, seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}, began: time.Now()}
	if cfg.Within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, cfg.Within, errLate)
		defer cancel()
	}
	err := w.walk(ctx)
	if errors.Is(err, errLate) {
		w.stop("stopped after %s: the cap --timeout", cfg.Within)
		err = nil
	}
	return Summary{
		Nodes: w.told, Requests: w.server.requests(), Stopped: w.stopped, Notes: w.notes, Namespaces: w.server.namespaces, Seconds: time.Since(w.began).Seconds(),
	}, err
}

func (w *walker) walk(ctx context.Context) (err error) {
	if w.server, err = meet(ctx, w.c); err != nil {
		return err
	}
	w.types = newTypes(&w.server)
	start := ua.NewNumericNodeID(0, id.ObjectsFolder)
	if w.cfg.Start != "" {
		if start, err = w.server.parse(w.cfg.Start); err != nil {
			return err
		}
	}
	w.claim(start.String())
	root := []Node{{node: start, Class: classObject, Parent: -1, Depth: -1, ID: w.server.text(start)}}
	kids, err := w.children(ctx, root, true)
	if err != nil {
		return err
	}
	return w.visit(ctx, kids[0], -1)
}

// visit tells a parent's children and all below them. Several are asked for what
// is below them at once; they are told in the server's order.
func (w *walker) visit(ctx context.Context, list []Node, parent int) error {
	for chunk := range slices.Chunk(list, w.server.chunk()) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		kids, err := w.children(ctx, chunk, false)
		if err == nil && w.cfg.Details {
			err = w.details(ctx, chunk)
		}
		if err != nil {
			return err
		}
		for i := range chunk {
			if err := w.one(ctx, &chunk[i], kids[i], parent); err != nil {
				return err
			}
			kids[i] = nil
		}
	}
	return nil
}

// one tells a node, and all below it.
func (w *walker) one(ctx context.Context, n *Node, kids []Node, parent int) error {
	n.Parent = parent
	at := w.told
	w.told++
	if err := w.tell(n); err != nil {
		return err
	}
	return w.visit(ctx, kids, at)
}

// claim takes a node that was not seen before.
func (w *walker) claim(node string) bool {
	h := maphash.String(w.seed, node)
	if _, was := w.seen[h]; was {
		return false
	}
	w.seen[h] = struct{}{}
	return true
}

// stop says, once, that a bound was met.
func (w *walker) stop(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(w.stopped, s) {
		w.stopped = append(w.stopped, s)
	}
}

// note says what could not be looked at.
func (w *walker) note(format string, args ...any) {
	switch {
	case len(w.notes) < maxNotes:
		w.notes = append(w.notes, fmt.Sprintf(format, args...))
	case len(w.notes) == maxNotes:
		w.notes = append(w.notes, "and more of that kind")
	}
}

// goesBelow reports whether anything is asked below a node.
func (w *walker) goesBelow(n *Node) bool {
	switch {
	case n.Type == typeProperty: // properties have nothing below them (OPC 10000-3 §5.6.3)
		return false
	case n.Class == classMethod:
		return false
	case n.node.Namespace() == 0 && n.node.IntID() == id.Server && n.node.StringID() == "": // its diagnostics are no plant's: --node i=2253 shows them
		return false
	}
	return true
}

// contains reports whether a node's namespace is asked for.
func contains(n *Node, part string) bool { return part == "" || strings.Contains(n.Namespace, part) }
