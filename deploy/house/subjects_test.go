package house

import (
	"go/ast"
	"slices"
	"strings"
	"testing"

	"plantmesh/proto/subject"
)

// traffic is what a room does with one name of proto/subject.
type traffic struct {
	room   string
	name   string // as "Ingest"
	reads  bool   // it consumes the subject, else it publishes on it
	where  string
	sample string // a subject of that name
}

// samples are subjects of every name proto/subject makes.
func samples() map[string]string {
	return map[string]string{
		"Ingest":    subject.Ingest("graz", "gw-1", subject.Live),
		"IngestAll": subject.IngestAll,
		"Canary":    subject.Canary,
		"Product":   subject.Product("production", "oee", "v1", "graz", "line1", "line1-filler"), "ProductAll": subject.ProductAll,
		"Receipt": subject.Receipt("graz", "gw-1"),
		"Resume":  subject.Resume("graz", "gw-1"), "ResumeAll": subject.ResumeAll,
		"Renew": subject.Renew("graz", "gw-1"), "RenewAll": subject.RenewAll,
		"Refresh": subject.Refresh("graz", "gw-1"),
		"Report":  subject.Report("graz", "gw-1"), "ReportAll": subject.ReportAll,
		"Configuration": subject.Configuration("graz", "gw-1"), "ConfigurationAll": subject.ConfigurationAll, "Nudge": subject.Nudge("graz", "gw-1"),
	}
}

// notSubjects are the other names: of streams, logs, tokens and roads.
func notSubjects() []string {
	return []string{"IngestStream", "ProductStream", "Inbox", "MayAnswer", "Products", "ReaderAsks", "AgentLog", "ParseAgentLog", "Token", "Escape", "Unescape", "Rank", "Road", "Live", "Backlog"}
}

// TestSubjectRanksGrow reads in the code which subjects each room consumes and
// publishes: what it publishes ranks above all it consumes, and whoever
// consumes a subject stands behind its publisher on the walk. So nobody can
// read the subject it writes.
func TestSubjectRanksGrow(t *testing.T) {
	var all []traffic
	for _, p := range list(t) {
		if room := place(p.rel); room != "proto" && room != "deploy" {
			all = append(all, trafficOf(t, p)...)
		}
	}
	stops := walk()
	for _, out := range all {
		for _, in := range all {
			from, to := subject.Rank(in.sample), subject.Rank(out.sample)
			if out.reads || !in.reads || from == 0 || to == 0 {
				continue
			}
			if in.room == out.room && from >= to {
				t.Errorf("%s consumes %s (rank %d, %s) and publishes %s (rank %d, %s)", in.room, in.name, from, in.where, out.name, to, out.where)
			}
			if from == to && slices.Index(stops, in.room) <= slices.Index(stops, out.room) {
				t.Errorf("%s consumes %s (%s), which %s behind it publishes (%s)", in.room, in.name, in.where, out.room, out.where)
			}
		}
	}
	// Nobody is overlooked: the two data subjects have these ends in the house.
	for _, want := range []traffic{
		{room: "edge/forward", name: "Ingest"},
		{room: "cloud/ingest", name: "Ingest", reads: true},
		{room: "cloud/hub", name: "Canary"},
		{room: "cloud/ingest", name: "Canary", reads: true},
		{room: "cloud/port", name: "Product"},
		{room: "cloud/ingest", name: "Receipt"},
		{room: "edge/forward", name: "Receipt", reads: true},
	} {
		if !slices.ContainsFunc(all, func(x traffic) bool { return x.room == want.room && x.name == want.name && x.reads == want.reads }) {
			t.Errorf("%s is not seen at %s (reads: %t)", want.room, want.name, want.reads)
		}
	}
}

// trafficOf finds the names a package uses. ParseX takes apart what came on X,
// and a name inside a call of Subscribe, or of a consumer's filter, is
// consumed. A stream's own list of subjects says nothing of who reads it. All
// other uses publish.
func trafficOf(t *testing.T, p pkg) (out []traffic) {
	t.Helper()
	for _, f := range p.files {
		if f.test {
			continue
		}
		var above []ast.Node
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if n == nil {
				above = above[:len(above)-1]
				return true
			}
			above = append(above, n)
			qualified, _ := f.calls(n)
			name, ok := strings.CutPrefix(qualified, module+"proto/subject.")
			if !ok || slices.Contains(notSubjects(), name) {
				return true
			}
			x := traffic{room: place(p.rel), name: name, where: f.at(n).String()}
			if parsed, ok := strings.CutPrefix(name, "Parse"); ok {
				x.name, x.reads = parsed, true
			}
			if x.sample, ok = samples()[x.name]; !ok {
				t.Errorf("%s: subject.%s is not known here: add it to samples or notSubjects", x.where, name)
			}
			around, list := surroundings(above)
			x.reads = x.reads || around
			if !list {
				out = append(out, x)
			}
			return true
		})
	}
	return out
}

// surroundings says whether a name stands in what consumes, or in the list of
// subjects of a stream.
func surroundings(above []ast.Node) (consumes, list bool) {
	for _, n := range above {
		switch n := n.(type) {
		case *ast.CallExpr:
			s, ok := n.Fun.(*ast.SelectorExpr)
			if !ok {
				continue
			}
			word := s.Sel.Name
			consumes = strings.HasPrefix(word, "Subscribe") || strings.HasPrefix(word, "QueueSubscribe") || strings.HasPrefix(word, "ChanSubscribe") ||
				consumes && word != "Publish" && word != "Request"
			list = list || strings.HasPrefix(word, "WithSubject") || strings.HasPrefix(word, "WithPurge")
		case *ast.FuncLit:
			consumes = false // what is done with a message is another matter
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok {
				list = list || key.Name == "Subjects"
				consumes = consumes || strings.HasPrefix(key.Name, "FilterSubject")
			}
		}
	}
	return consumes, list
}

// TestSubjectsComeFromOnePlace: a subject written by hand would be seen by no
// rank. What a user may do is written as a template; it carries nothing.
func TestSubjectsComeFromOnePlace(t *testing.T) {
	inspect(t, func(p pkg, f file, n ast.Node) {
		lit, ok := n.(*ast.BasicLit)
		if !ok || p.rel == "proto/subject" {
			return
		}
		for _, head := range []string{"ingest.v1.", "dp.v1.", "gap.v1.", "ctl.v1.", "q.v1."} {
			if strings.HasPrefix(unquote(lit.Value), head) && !strings.Contains(lit.Value, "{{") {
				t.Errorf("%s: %s is written by hand: proto/subject makes subjects", f.at(n), lit.Value)
			}
		}
	})
}
