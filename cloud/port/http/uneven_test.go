package porthttp

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
)

// A column that only some rows have is in each format where a row has it, whichever row
// comes first, and null where it is asked for by name.
func TestRows_SomeSayMoreThanOthers(t *testing.T) {
	deps := newFake(noon()).deps()
	deps.Catalogue = append(deps.Catalogue, Product{ID: "signals", Version: "1.3.0", Columns: []string{"signal", "value", "derived_from"}})
	deps.Readers = map[string]Rows{"signals": rowsFunc(func(context.Context, mesh.RowQuery) ([]mesh.Row, string, error) {
		return []mesh.Row{
			{Entity: "line1-filler", Key: "a", Body: []byte(`{"signal":"a","value":1}`)},
			{Entity: "line1-filler", Key: "b", Body: []byte(`{"signal":"b","value":2,"derived_from":"a"}`)},
		}, "", nil
	})}
	h := New(Config{}, deps, slog.New(slog.DiscardHandler))
	for query, want := range map[string]string{
		"rows?":                            `{"signal":"a","value":1,"is_final"`,
		"rows?limit=10":                    `{"signal":"b","value":2,"derived_from":"a","is_final"`,
		"rows?format=ndjson":               `{"signal":"b","value":2,"derived_from":"a","is_final"`,
		"rows?format=ndjson&limit=2":       `{"signal":"a","value":1,"is_final"`,
		"rows?format=csv":                  "\nb,2,a,",
		"rows?format=csv&limit=3":          "\na,1,,",
		"rows?fields=value,derived_from":   "{\"value\":1,\"derived_from\":null},\n{\"value\":2,\"derived_from\":\"a\"}",
		"latest?fields=value,derived_from": "{\"value\":1,\"derived_from\":null},\n{\"value\":2,\"derived_from\":\"a\"}",
		"latest":                           `{"signal":"b","value":2,"derived_from":"a","is_final"`,
	} {
		if w := get(t, h, "/api/v1/products/signals/"+query); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s, want %s", query, w.Code, w.Body, want)
		}
	}
	if w := get(t, h, "/api/v1/products/signals/latest?fields=derived_form"); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"nearest":"derived_from"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
