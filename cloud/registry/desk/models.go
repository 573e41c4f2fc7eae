package desk

import (
	"net/http"

	"plantmesh/cloud/registry/plant"
)

func (d *Machines) models(w http.ResponseWriter, r *http.Request) {
	l, ok := d.look(w, r)
	if !ok {
		return
	}
	used := map[string]int{}
	for _, x := range l.Rows {
		used[x.Model]++
	}
	type row struct {
		plant.Model

		Machines int `json:"machines"`
	}
	out := make([]row, 0, len(l.Scene.Models))
	for _, m := range l.Scene.Models {
		out = append(out, row{m, used[m.Ref()]})
	}
	answer(w, map[string]any{"version": l.Scene.Register.Version, "data": out})
}

func (d *Machines) model(w http.ResponseWriter, r *http.Request) {
	l, ok := d.look(w, r)
	if !ok {
		return
	}
	m, err := l.Scene.ModelOf(r.PathValue("id"))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	answer(w, m)
}

func (d *Machines) diff(w http.ResponseWriter, r *http.Request) {
	l, ok := d.look(w, r)
	if !ok {
		return
	}
	q := r.URL.Query()
	from, err := l.Scene.ModelOf(r.PathValue("id") + "@" + q.Get("from"))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	to, err := l.Scene.ModelOf(r.PathValue("id") + "@" + q.Get("to"))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	answer(w, map[string]any{"from": from.Ref(), "to": to.Ref(), "data": from.Diff(to)})
}

func (d *Machines) addModel(w http.ResponseWriter, r *http.Request) {
	var q struct {
		asked

		Model plant.Model `json:"model"`
	}
	if !d.read(w, r, &q) {
		return
	}
	if q.ValidFrom == "" { // a model alone changes no row
		q.ValidFrom = Always
	}
	d.change(w, r, "model.add", q.asked, func(s plant.Scene) (plant.Delta, error) { return s.AddModel(q.Model) })
}

func (d *Machines) upgrade(w http.ResponseWriter, r *http.Request) {
	var q struct {
		asked

		To       string   `json:"to"`
		Machines []string `json:"machines"` // none: all of the model
	}
	if !d.read(w, r, &q) {
		return
	}
	d.change(w, r, "model.upgrade", q.asked, func(s plant.Scene) (plant.Delta, error) {
		return s.Upgrade(r.PathValue("id"), q.To, q.Machines...)
	})
}
