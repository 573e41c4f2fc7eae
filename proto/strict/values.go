package strict

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Value is a key that can be set, and what holds.
type Value struct {
	Key    string `json:"key"`    // as buffer.max_bytes
	Text   string `json:"value"`  // as a file would say it; empty: nothing
	Origin string `json:"origin"` // edge.yaml:12, the variable of the environment, or default
}

// DefaultOrigin is the origin of what nobody has said.
const DefaultOrigin = "default"

// Values are the keys of v, a pointer to the struct that the file was read into, by now with
// its defaults. Lists and maps are told by how much they hold. Keys stand in the order of v.
func (d *Doc) Values(v any) []Value {
	var out []Value
	d.values(&out, "", reflect.ValueOf(v).Elem())
	return out
}

func (d *Doc) values(out *[]Value, prefix string, v reflect.Value) {
	for f, value := range v.Fields() {
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == inline {
			d.values(out, prefix, value)
		}
		if key == "" || key == "-" {
			continue
		}
		if value.Kind() == reflect.Struct {
			d.values(out, prefix+key+".", value)
			continue
		}
		*out = append(*out, Value{Key: prefix + key, Text: written(value), Origin: d.origin("$." + prefix + key)})
	}
}

// origin is where what holds at a path comes from.
func (d *Doc) origin(path string) string {
	if variable, ok := d.env[path]; ok {
		return variable
	}
	n := d.body
	line := 0
	for step := range strings.SplitSeq(strings.TrimPrefix(path, "$."), ".") {
		if line, n = child(n, step); line == 0 {
			return DefaultOrigin
		}
	}
	return fmt.Sprintf("%s:%d", d.File, line)
}

// written is a value as a file would say it.
func written(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	switch x := v.Interface().(type) {
	case Duration:
		text := time.Duration(x).String()
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
		return text
	case Size:
		return x.text()
	}
	if slices.Contains([]reflect.Kind{reflect.Slice, reflect.Map}, v.Kind()) {
		if v.Len() == 0 {
			return ""
		}
		return fmt.Sprintf("(%d entries)", v.Len())
	}
	return fmt.Sprint(v.Interface())
}

// text is a size in the largest unit that says it whole.
func (z Size) text() string {
	for _, unit := range []struct {
		name string
		of   Size
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if z != 0 && z%unit.of == 0 {
			return fmt.Sprintf("%d%s", z/unit.of, unit.name)
		}
	}
	return strconv.FormatInt(int64(z), 10)
}
