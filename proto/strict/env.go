package strict

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Overlay changes what Load read, before anybody checks it.
type Overlay func(d *Doc, v any) error

// Env lays variables of the environment over a file: with the prefix
// "PLANTMESH_EDGE_", PLANTMESH_EDGE_BUFFER__MAX_BYTES=64MiB is max_bytes in the
// group buffer. Lists stay in the file. A variable with the prefix that names
// no key is a fault. environ is written as os.Environ writes it.
func Env(prefix string, environ []string) Overlay {
	return func(d *Doc, v any) error {
		d.env = map[string]string{}
		leaves := map[string]leaf{}
		plant(leaves, prefix, "$", reflect.ValueOf(v).Elem())
		for _, variable := range slices.Sorted(slices.Values(environ)) {
			name, value, _ := strings.Cut(variable, "=")
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			l, ok := leaves[name]
			if !ok {
				return &Fault{File: "environment", What: "unknown variable " + name, Nearest: Nearest(name, slices.Sorted(maps.Keys(leaves))), Allowed: slices.Sorted(maps.Keys(leaves))}
			}
			if err := l.set(name, value); err != nil {
				return err
			}
			d.env[l.path] = name
		}
		return nil
	}
}

// leaf is a key that one variable can set.
type leaf struct {
	path  string // as Doc.Fault takes it
	value reflect.Value
}

// plant finds the leaves of a struct. A name is the prefix and the keys of the
// path in capitals, with two underscores between levels.
func plant(out map[string]leaf, prefix, path string, v reflect.Value) {
	for f, value := range v.Fields() {
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == inline {
			plant(out, prefix, path, value)
		}
		if key == "" || key == "-" {
			continue
		}
		name, at := prefix+strings.ToUpper(key), path+"."+key
		switch value.Kind() {
		case reflect.Struct:
			plant(out, name+"__", at, value)
		case reflect.Slice, reflect.Map:
		default:
			out[name] = leaf{at, value}
		}
	}
}

func (l leaf) set(name, text string) error {
	if text == "" {
		return &Fault{File: name, What: "is empty: unset it, or give it a value"}
	}
	if l.value.Kind() == reflect.String { // as it stands, whatever YAML would make of it
		l.value.SetString(text)
		return nil
	}
	err := yaml.NewDecoder(strings.NewReader(text), yaml.Strict()).Decode(l.value.Addr().Interface())
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	err = explain(name, err, nil)
	if f, ok := errors.AsType[*Fault](err); ok {
		f.Line = 0
		return f
	}
	return fmt.Errorf("read %s: %w", name, err)
}
