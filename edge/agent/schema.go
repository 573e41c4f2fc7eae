package agent

import (
	"embed"
	"fmt"
)

// The schemas are written from the structs and their comments, see TestSchemas_AreTheStructs.
//
//go:embed schema
var schemas embed.FS

// SchemaNames are the files that have a schema: edge.yaml, those of sources.d and of rules.d,
// and those of tests beside rules.
func SchemaNames() []string { return []string{"edge", "source", "rules", "rules_test"} }

// Schema is the JSON Schema (draft 2020-12) of a file, by which an editor completes and
// explains its keys.
func Schema(name string) (string, error) {
	b, err := schemas.ReadFile("schema/" + name + ".json")
	if err != nil {
		return "", fmt.Errorf("there is no schema of %q", name)
	}
	return string(b), nil
}
