// Package strict reads the YAML files people edit. Every fault is one line:
// file, line, what is wrong, and the nearest right key.
package strict

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxFile bounds a configuration file.
const maxFile = 4 << 20

// Fault is one thing wrong in a file, for the person who edits it.
type Fault struct { //nolint:errname // it is a fault in a file, and reads so at every use
	File    string
	Line    int // 0 where no line can be named
	What    string
	Nearest string   // the key that was probably meant, or empty
	Allowed []string // for an unknown key: those that may stand there
}

func (f *Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	b.WriteString(": " + f.What)
	if hint := f.Hint(); hint != "" {
		b.WriteString("; " + hint)
	}
	return b.String()
}

// Hint is the key that was probably meant, or else those that may stand there.
func (f *Fault) Hint() string {
	switch {
	case f.Nearest != "":
		return fmt.Sprintf("did you mean %q?", f.Nearest)
	case len(f.Allowed) > 0:
		return "allowed here: " + strings.Join(f.Allowed, ", ")
	}
	return ""
}

// Doc is a file that was read, kept to name lines in later faults.
type Doc struct {
	File string
	body ast.Node
	env  map[string]string // variable by the path it was laid over
}

// Load reads the YAML file at path into v, a pointer to a struct with yaml
// tags, then lays the overlays over it in their order. The error is always a
// *Fault.
func Load(path string, v any, over ...Overlay) (*Doc, error) {
	src, err := Read(path)
	if err != nil {
		return nil, &Fault{File: path, What: Unreadable(err)}
	}
	doc, err := Parse(path, src, v)
	for _, o := range over {
		if err == nil {
			err = o(doc, v)
		}
	}
	if err != nil {
		return nil, err
	}
	return doc, nil
}

// Read reads the file at path for Parse, no more of it than Parse needs to refuse it as too
// large: a person may name anything, a device without an end too.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	return src, errors.Join(err, f.Close())
}

// Unreadable says in words why a file that a person named can not be read.
func Unreadable(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "no such file"
	case errors.Is(err, fs.ErrPermission):
		return "this user may not read the file"
	}
	return "it can't be read: " + err.Error()
}

// Parse is Load for bytes at hand; file is only a name.
func Parse(file string, src []byte, v any) (*Doc, error) {
	if len(src) > maxFile {
		return nil, &Fault{File: file, What: fmt.Sprintf("larger than %d MiB: not a configuration file", maxFile>>20)}
	}
	tree, err := parser.ParseBytes(src, 0)
	if err != nil {
		return nil, explain(file, err, nil)
	}
	doc := &Doc{File: file}
	if len(tree.Docs) > 1 {
		f := &Fault{File: file, What: "a second document begins here (---): one file, one document"}
		if b := tree.Docs[1].Body; b != nil {
			f.Line = b.GetToken().Position.Line
		}
		return nil, f
	}
	if len(tree.Docs) > 0 {
		doc.body = tree.Docs[0].Body
	}
	if doc.body == nil {
		return doc, nil
	}
	// The tree at hand, so that the text is parsed once.
	if err = yaml.NewDecoder(strings.NewReader(""), yaml.Strict()).DecodeFromNode(doc.body, v); err != nil {
		return nil, explain(file, err, func(t *token.Token) []string { return allowed(doc.body, t, reflect.TypeOf(v)) })
	}
	return doc, nil
}

// explain is err as a *Fault. allowed gives the keys that may stand at a
// token; nil where there are no keys.
func explain(file string, err error, allowed func(*token.Token) []string) error {
	f := &Fault{File: file}
	var (
		fault    *Fault
		unknown  *yaml.UnknownFieldError
		twice    *yaml.DuplicateKeyError
		mistyped *yaml.TypeError
		overflow *yaml.OverflowError
		node     *yaml.UnexpectedNodeTypeError
		syntax   *yaml.SyntaxError
	)
	switch {
	case errors.As(err, &fault):
		f.Line, f.What = fault.Line, fault.What
	case errors.As(err, &unknown):
		f.at(unknown.Token)
		f.What = fmt.Sprintf("unknown key %q", unknown.Token.Value)
		if allowed != nil {
			f.Allowed = allowed(unknown.Token)
			f.Nearest = Nearest(unknown.Token.Value, f.Allowed)
		}
	case errors.As(err, &twice):
		f.at(twice.Token)
		f.What = fmt.Sprintf("key %q stands twice", twice.Token.Value)
	case errors.As(err, &mistyped):
		f.at(mistyped.Token)
		f.What = fmt.Sprintf("%q is no %s", mistyped.Token.Value, plain(mistyped.DstType))
	case errors.As(err, &overflow):
		f.at(overflow.Token)
		f.What = fmt.Sprintf("%s does not fit", overflow.SrcNum)
	case errors.As(err, &node):
		f.at(node.Token)
		f.What = fmt.Sprintf("%s found where %s should stand", node.Actual, node.Expected)
	case errors.As(err, &syntax):
		f.at(syntax.Token)
		f.What = "not YAML: " + syntax.Message
	default:
		f.What, _, _ = strings.Cut(err.Error(), "\n")
	}
	return f
}

func (f *Fault) at(t *token.Token) {
	if t != nil && t.Position != nil {
		f.Line = t.Position.Line
	}
}

func plain(t reflect.Type) string {
	switch t.Kind() { //nolint:exhaustive // the rest keep Go's name
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "whole number"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "list"
	case reflect.Struct, reflect.Map:
		return "group of keys"
	}
	return t.String()
}

// inline is the option of a yaml tag by which a struct's keys stand among those
// around it.
const inline = "inline"

// allowed are the keys that may stand beside the one at a token of a document
// that is read into t.
func allowed(n ast.Node, at *token.Token, t reflect.Type) []string {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return nil
	}
	switch n := n.(type) {
	case *ast.SequenceNode:
		if t.Kind() == reflect.Slice {
			return firstAllowed(n.Values, at, t.Elem())
		}
	case *ast.MappingNode:
		return firstAllowed(n.Values, at, t)
	case *ast.MappingValueNode:
		fields := fieldsOf(t)
		if key := n.Key.GetToken(); key.Position.Offset == at.Position.Offset {
			return slices.Sorted(maps.Keys(fields))
		}
		if t.Kind() == reflect.Map {
			return allowed(n.Value, at, t.Elem())
		}
		return allowed(n.Value, at, fields[n.Key.GetToken().Value])
	}
	return nil
}

// firstAllowed is allowed for the one of several nodes that has the token.
func firstAllowed[N ast.Node](nodes []N, at *token.Token, t reflect.Type) []string {
	for _, n := range nodes {
		if found := allowed(n, at, t); found != nil {
			return found
		}
	}
	return nil
}

// fieldsOf are the types of a struct's fields by their yaml keys; those of a struct
// that is inlined stand among them.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	if t.Kind() != reflect.Struct {
		return out
	}
	for f := range t.Fields() {
		switch key, options, _ := strings.Cut(f.Tag.Get("yaml"), ","); {
		case options == inline:
			maps.Copy(out, fieldsOf(f.Type))
		case key != "" && key != "-":
			out[key] = f.Type
		}
	}
	return out
}

// Nearest is the candidate with the smallest edit distance to word, or empty
// where none is near enough to be meant. Of equals the first in the alphabet.
func Nearest(word string, candidates []string) (best string) {
	least := len(word)/2 + 1
	for _, c := range candidates {
		if d := distance(word, c); d < least || d == least && c < best {
			best, least = c, d
		}
	}
	return best
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			last, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, last+cost)
		}
	}
	return row[len(b)]
}

// Duration is a time with a unit: "250ms", "10s", "8h".
type Duration time.Duration

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	s := n.GetToken().Value
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return &Fault{Line: n.GetToken().Position.Line, What: fmt.Sprintf("%q is no duration: write a number with ms, s, m or h, such as 10s", s)}
	}
	*d = Duration(v)
	return nil
}

// Size is a number of bytes with a unit: "512KiB", "64MiB", "4GiB".
type Size int64

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (z *Size) UnmarshalYAML(n ast.Node) error {
	s := n.GetToken().Value
	if s == "0" { // it has no unit to be wrong about
		*z = 0
		return nil
	}
	for unit, factor := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if num, ok := strings.CutSuffix(s, unit); ok {
			if v, err := strconv.ParseInt(strings.TrimSpace(num), 10, 32); err == nil && v >= 0 {
				*z = Size(v * factor)
				return nil
			}
		}
	}
	return &Fault{Line: n.GetToken().Position.Line, What: fmt.Sprintf("%q is no size: write a whole number with KiB, MiB or GiB, such as 64MiB", s)}
}
