package hub

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"plantmesh/cloud/product"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
)

// noSuchProducts are faults of models that are to be made for products that no machine has.
func noSuchProducts(models []plant.Model) error {
	var out plant.Faults
	for i := range models {
		for _, id := range models[i].Enables {
			if all := product.OfMachines(); !slices.Contains(all, id) {
				out = append(out, plant.Fault{ID: models[i].Ref(), Field: "enables", What: fmt.Sprintf("there is no product %q of machines; there are %s", id, strings.Join(all, ", "))})
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// enabled adds to each machine of a model a line that says whether the products are made
// that its model is for.
func enabled(l *desk.Look) {
	for i := range l.Rows {
		row := &l.Rows[i]
		ready, is := row.Readiness.(product.Readiness)
		k := slices.IndexFunc(l.Scene.Models, func(m plant.Model) bool { return m.Ref() == row.Model })
		if !is || k < 0 || len(l.Scene.Models[k].Enables) == 0 {
			continue
		}
		var less []string
		for _, id := range l.Scene.Models[k].Enables {
			if how := ready.Products[id]; how != "whole" {
				less = append(less, id+" "+cmp.Or(how, "is no product"))
			}
		}
		c := product.Check{Check: "products", OK: len(less) == 0, Says: "whole, as its model is for: " + strings.Join(l.Scene.Models[k].Enables, ", ")}
		if len(less) > 0 {
			c.Says = "its model is for " + strings.Join(l.Scene.Models[k].Enables, ", ") + ": " + strings.Join(less, ", ")
		}
		ready.Checks = append(slices.Clip(ready.Checks), c)
		row.Readiness = ready
	}
}
