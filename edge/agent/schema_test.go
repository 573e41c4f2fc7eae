package agent

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"plantmesh/edge/quality"
	"plantmesh/proto/strict"
)

// schemaOf is the part of JSON Schema that is used.
type schemaOf struct {
	Schema      string               `json:"$schema,omitempty"`
	Title       string               `json:"title,omitempty"`
	Description string               `json:"description,omitempty"`
	Type        string               `json:"type,omitempty"`
	Enum        []string             `json:"enum,omitempty"`
	Pattern     string               `json:"pattern,omitempty"`
	Items       *schemaOf            `json:"items,omitempty"`
	Properties  map[string]*schemaOf `json:"properties,omitempty"`
	Additional  any                  `json:"additionalProperties,omitempty"`
}

// sources are the packages of this module whose comments explain keys.
type sources struct {
	t     *testing.T
	types map[string]map[string]*ast.TypeSpec // by package
	enums map[string]map[string][]string      // constants of a type that is a string
}

func (s *sources) read(pkg string) {
	s.t.Helper()
	if s.types[pkg] != nil {
		return
	}
	s.types[pkg], s.enums[pkg] = map[string]*ast.TypeSpec{}, map[string][]string{}
	files, err := filepath.Glob(filepath.Join("..", "..", strings.TrimPrefix(pkg, "plantmesh/"), "*.go"))
	if err != nil || len(files) == 0 {
		s.t.Fatalf("%s: %v", pkg, err)
	}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				s.note(pkg, g)
			}
		}
	}
}

func (s *sources) note(pkg string, g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			s.types[pkg][spec.Name.Name] = spec
		case *ast.ValueSpec:
			of, named := spec.Type.(*ast.Ident)
			for _, v := range spec.Values {
				if text, ok := v.(*ast.BasicLit); ok && named && text.Kind == token.STRING {
					value, err := strconv.Unquote(text.Value)
					if err != nil {
						s.t.Fatal(err)
					}
					s.enums[pkg][of.Name] = append(s.enums[pkg][of.Name], value)
				}
			}
		}
	}
}

// comment is what the source says of a field.
func (s *sources) comment(in reflect.Type, field string) string {
	s.read(in.PkgPath())
	spec := s.types[in.PkgPath()][in.Name()]
	if spec == nil {
		return "" // of no name
	}
	fields, ok := spec.Type.(*ast.StructType)
	if !ok {
		return ""
	}
	for _, f := range fields.Fields.List {
		for _, n := range f.Names {
			if n.Name == field {
				return strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
			}
		}
	}
	return ""
}

func (s *sources) of(t reflect.Type) *schemaOf {
	switch t {
	case reflect.TypeFor[strict.Duration]():
		return &schemaOf{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$`}
	case reflect.TypeFor[strict.Size]():
		return &schemaOf{Type: "string", Pattern: `^[0-9]+ ?(KiB|MiB|GiB)$|^0$`}
	}
	switch t.Kind() { //nolint:exhaustive // whole numbers come behind it, and others are in no file
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Struct:
		out := &schemaOf{Type: "object", Properties: map[string]*schemaOf{}, Additional: false}
		s.fields(out, t)
		return out
	case reflect.Slice:
		return &schemaOf{Type: "array", Items: s.of(t.Elem())}
	case reflect.Map:
		return &schemaOf{Type: "object", Additional: s.of(t.Elem())}
	case reflect.String:
		out := &schemaOf{Type: "string"}
		if strings.HasPrefix(t.PkgPath(), "plantmesh/") {
			s.read(t.PkgPath())
			out.Enum = s.enums[t.PkgPath()][t.Name()]
		}
		return out
	case reflect.Bool:
		return &schemaOf{Type: "boolean"}
	case reflect.Float64, reflect.Float32:
		return &schemaOf{Type: "number"}
	case reflect.Interface:
		return &schemaOf{}
	}
	if t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64 {
		return &schemaOf{Type: "integer"}
	}
	s.t.Fatalf("%s has no schema", t)
	return nil
}

func (s *sources) fields(out *schemaOf, t reflect.Type) {
	for f := range t.Fields() {
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == "inline" {
			s.fields(out, f.Type)
		}
		if key == "" || key == "-" {
			continue
		}
		p := s.of(f.Type)
		p.Description = s.comment(t, f.Name)
		if behind, ok := strings.CutPrefix(p.Description, f.Name+" "); ok { // who writes a file knows keys, no fields
			p.Description = key + " " + behind
		}
		out.Properties[key] = p
	}
}

// What an editor is told of the files is what the agent reads, in the words of the source.
// PLANTMESH_UPDATE=1 writes it anew.
func TestSchemas_AreTheStructs(t *testing.T) {
	s := &sources{t: t, types: map[string]map[string]*ast.TypeSpec{}, enums: map[string]map[string][]string{}}
	for name, of := range map[string]reflect.Type{
		"edge": reflect.TypeFor[Config](), "source": reflect.TypeFor[SourceFile](), "rules": reflect.TypeFor[quality.File](), "rules_test": reflect.TypeFor[quality.TestFile](),
	} {
		root := s.of(of)
		root.Schema, root.Title = "https://json-schema.org/draft/2020-12/schema", "plantmesh-edge: "+name
		b, err := json.MarshalIndent(root, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		path, want := filepath.Join("schema", name+".json"), string(b)+"\n"
		if os.Getenv("PLANTMESH_UPDATE") != "" {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is not what the source says: PLANTMESH_UPDATE=1 go test -run Schemas ./edge/agent (%v)", path, err)
		}
	}
}

// misfits are the places of a value that a schema does not allow.
func misfits(s *schemaOf, at string, v any) (out []string) {
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			switch p := s.Properties[key]; {
			case p != nil:
				out = append(out, misfits(p, at+"."+key, below)...)
			case s.Additional == false:
				out = append(out, at+"."+key)
			}
		}
	case []any:
		if s.Items == nil {
			return []string{at}
		}
		for i, below := range v {
			out = append(out, misfits(s.Items, fmt.Sprintf("%s[%d]", at, i), below)...)
		}
	case string:
		if s.Type != "" && s.Type != "string" {
			return []string{at}
		}
		if len(s.Enum) > 0 && !strings.Contains(" "+strings.Join(s.Enum, " ")+" ", " "+v+" ") {
			return []string{at}
		}
	}
	return out
}

// The schemas take the examples that people begin with, and no key that nobody reads.
func TestSchemas_TakeTheExamples(t *testing.T) {
	examples := filepath.Join("..", "..", "deploy", "examples", "gateway")
	for pattern, name := range map[string]string{"edge.yaml": "edge", "sources.d/*.yaml": "source", "rules.d/*.yaml": "rules"} {
		text, err := Schema(name)
		if err != nil {
			t.Fatal(err)
		}
		var s schemaOf
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(examples, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			var v map[string]any
			if _, err := strict.Parse(f, b, &v); err != nil {
				t.Fatal(err)
			}
			if bad := misfits(&s, "", v); len(bad) > 0 {
				t.Errorf("%s: %v", f, bad)
			}
			v["nobody"] = 1
			if bad := misfits(&s, "", v); len(bad) != 1 || bad[0] != ".nobody" {
				t.Errorf("%s with another key: %v", f, bad)
			}
		}
	}
	if _, err := Schema("../init"); err == nil {
		t.Error("there is a schema of anything")
	}
}
