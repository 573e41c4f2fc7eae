package mapping

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"plantmesh/proto/mesh"
)

// Message is one message of a broker.
type Message struct {
	Topic   string
	Payload []byte
}

// Bounds of a proposal.
const (
	maxProposed = 2000 // signals
	maxShapes   = 200  // entries of topics
)

// Proposal is a configuration that takes what was heard, in the words of a file.
type Proposal struct {
	Config Config
	Notes  []string // what a person should know or decide
	seen   map[string]string
}

// Propose makes a configuration of messages; now is the plant clock. It finds out which
// shape each payload has, and which levels of the topics differ among those of one shape.
func Propose(messages []Message, now mesh.Nanos) Proposal {
	p := Proposal{seen: map[string]string{}}
	groups := map[string]*group{}
	for _, x := range messages {
		if strings.HasPrefix(x.Topic, "$") || len(x.Topic) > maxTopic || !utf8.ValidString(x.Topic) || !p.beat(x, now) {
			continue
		}
		t := shape(x.Payload, now)
		levels := strings.Split(x.Topic, "/")
		id := fmt.Sprintf("%d %s %+v", len(levels), levels[0], t)
		g := groups[id]
		if g == nil {
			if len(groups) == maxShapes {
				p.note("more than %d shapes of messages: the rest is left out", maxShapes)
				continue
			}
			g = &group{topic: t, levels: levels, same: slices.Repeat([]bool{true}, len(levels))}
			groups[id] = g
		}
		g.messages = append(g.messages, x)
		for i := range levels {
			g.same[i] = g.same[i] && levels[i] == g.levels[i]
		}
	}
	// What says most of itself comes first, because the first filter has a topic.
	list := slices.SortedFunc(maps.Values(groups), func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.open(), b.open()), slices.Compare(a.levels, b.levels), strings.Compare(a.topic.Value, b.topic.Value))
	})
	for _, g := range list {
		p.Config.Topics = append(p.Config.Topics, g.entry())
	}
	p.signals(list, now)
	if p.Config.Heartbeat.Topic == "" {
		p.note("nothing proves that silence is silence: declare heartbeat, or max_silence of signals")
	}
	return p
}

func (p *Proposal) note(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(p.Notes, s) {
		p.Notes = append(p.Notes, s)
	}
}

// beat takes a message for a heartbeat by its topic's last level and a time in it; others
// it leaves.
func (p *Proposal) beat(x Message, now mesh.Nanos) (other bool) {
	last := strings.ToLower(x.Topic[strings.LastIndexByte(x.Topic, '/')+1:])
	var d document
	if !slices.Contains([]string{"heartbeat", "alive", "keepalive", "watchdog"}, last) || d.parse(x.Payload) != nil {
		return true
	}
	at, unit := d.timeIn(0, now)
	if at < 0 {
		return true
	}
	if h := &p.Config.Heartbeat; h.Topic == "" || h.Topic == x.Topic {
		h.Topic, h.Time, h.TimeUnit = x.Topic, d.where(at), unit
		return false
	}
	return true
}

// group are messages of one shape, whose topics have as many levels.
type group struct {
	topic    Topic // without filter and signal
	levels   []string
	same     []bool // in all topics
	messages []Message
}

// open is how many levels differ.
func (g *group) open() (n int) {
	for _, same := range g.same {
		if !same {
			n++
		}
	}
	return n
}

// entry is the group's entry of topics.
func (g *group) entry() Topic {
	t := g.topic
	names := []string{"machine", "line", "area", "site"} // from the back
	if t.Payload == plainPayload || t.Value != "" && t.Key == "" && !strings.Contains(t.Signal, "{") {
		names = append([]string{"signal"}, names...)
	}
	filter := make([]string, len(g.levels))
	for i, k := len(g.levels)-1, 0; i >= 0; i-- {
		filter[i] = g.levels[i]
		if !g.same[i] || strings.ContainsAny(g.levels[i], "{}+#") { // those mean something in a filter
			filter[i] = "{" + fmt.Sprintf("level%d", i) + "}"
			if k < len(names) {
				filter[i] = "{" + names[k] + "}"
			}
			k++
		}
	}
	t.Filter = strings.Join(filter, "/")
	t.Signal = strings.Trim("{topic}."+t.Signal, ".")
	return t
}

// timeKeys are what devices call a time, the usual first.
func timeKeys() []string {
	return []string{"ts", "timestamp", "time", "t", "timestamp_ms", "timestamp_ns", "@timestamp", "_timestamp", "datetime", "date_time", "date"}
}

// timeIn is the member of an object that is a time, and its time_unit.
func (d *document) timeIn(at int, now mesh.Nanos) (found int, unit string) {
	if d.nodes[at].kind != object {
		return none, ""
	}
	for _, name := range timeKeys() {
		for c := int32(at + 1); c < d.nodes[at].next; c = d.nodes[c].next {
			if strings.EqualFold(string(d.raw(d.nodes[c].key)), name) {
				if unit := d.unitOf(int(c), now); unit != "" {
					return int(c), unit
				}
			}
		}
	}
	return none, ""
}

// unitOf is the narrowest time_unit that takes a value as a time within ten years of now.
func (d *document) unitOf(at int, now mesh.Nanos) string {
	const decade = 10 * 366 * 24 * 3600 * 1e9
	for _, unit := range []string{"s", "ms", "us", "ns", "text", "auto"} {
		f, _ := parseForm(unit)
		if t, err := d.instant(at, &f, now); err == nil && max(t-now, now-t) < decade {
			return unit
		}
	}
	return ""
}

// shape is how a payload is read: an entry of topics without its filter, whose signal says
// only what payloads fill.
func shape(payload []byte, now mesh.Nanos) (t Topic) {
	var d document
	root := null
	if d.parse(payload) == nil {
		root = d.nodes[0].kind
	}
	switch root {
	case object:
		return d.shapeOfObject(now)
	case array:
		t = d.shapeOfArray("[*]", 0, now)
		if t.Value == "" {
			t.Signal = "{path}"
		}
		return t
	case text:
		return Topic{Value: "$"}
	case null, number, truth, falsity:
	}
	return Topic{Payload: plainPayload}
}

// has reports whether something stands at a path.
func (d *document) has(to string) bool {
	p, err := parsePath(to)
	if err != nil {
		return false
	}
	at, err := d.find(0, p)
	return err == nil && at >= 0
}

// preset is the form of payload with a name that an object has; empty: none.
func (d *document) preset() string {
	for _, x := range []struct {
		name  string
		paths []string
	}{
		{"kepware", []string{"values[0].id", "values[0].v", "values[0].t"}},
		{"siemens", []string{"vals[0].id", "vals[0].val", "vals[0].ts"}},
		{"neuron", []string{"timestamp", "node", "group", "values"}},
		{"neuron-tags", []string{"timestamp", "node", "group", "tags[0].name"}},
		{"telegraf", []string{"fields", "name", "tags", "timestamp"}},
		{"umh", []string{"timestamp_ms"}},
	} {
		if !slices.ContainsFunc(x.paths, func(p string) bool { return !d.has(p) }) {
			return x.name
		}
	}
	return ""
}

func (d *document) shapeOfObject(now mesh.Nanos) (t Topic) {
	if t.Payload = d.preset(); t.Payload != "" {
		if t.Signal = "{key}"; t.Payload == "umh" && d.has("value") {
			t.Signal = ""
		}
		return t
	}
	at, unit := d.timeIn(0, now)
	if at >= 0 {
		t.Time, t.TimeUnit = d.where(at), unit
	}
	var rest []int
	for c := int32(1); c < d.nodes[0].next; c = d.nodes[c].next {
		n := &d.nodes[c]
		switch key := strings.ToLower(string(d.raw(n.key))); {
		case int(c) == at:
		case key == "q" || key == "quality":
			t.Quality = Quality{Path: d.where(int(c)), As: d.qualityAs(n)}
		case key == "seq" || key == "sequence":
			t.Sequence = d.where(int(c))
		default:
			rest = append(rest, int(c))
		}
	}
	for _, c := range rest {
		if e := d.shapeOfArray(d.where(c)+"[*]", c, now); e.Value != "" {
			return t.with(&e)
		}
	}
	t.Signal = "{key}"
	if len(rest) == 1 && slices.Contains([]string{"value", "val", "v"}, strings.ToLower(string(d.raw(d.nodes[rest[0]].key)))) && d.nodes[rest[0]].kind < array {
		t.Value, t.Signal = d.where(rest[0]), ""
	}
	if slices.ContainsFunc(rest, func(c int) bool { return d.nodes[c].kind >= array }) {
		t.Signal = "{path}"
	}
	return t
}

// with is t for the elements of an array: what they don't say, the message does.
func (t *Topic) with(e *Topic) Topic {
	t.Value, t.Key, t.Signal = e.Value, e.Key, e.Signal
	if e.Time != "" {
		t.Time, t.TimeUnit = e.Time, e.TimeUnit
	}
	if e.Quality.Path != "" {
		t.Quality = e.Quality
	}
	return *t
}

// qualityAs is how numbers of a quality are meant. 0 may be good or bad: it is not guessed at.
func (d *document) qualityAs(n *node) string {
	if m, ok := n.whole(); n.kind == number && ok && (m == 192 || m == 64) {
		return "opcda"
	}
	return ""
}

// shapeOfArray is that of an array of objects that name their values; without value: it is none.
func (d *document) shapeOfArray(each string, at int, now mesh.Nanos) (t Topic) {
	first := at + 1
	if d.nodes[at].kind != array || d.nodes[at].next == int32(first) || d.nodes[first].kind != object {
		return t
	}
	member := func(names ...string) string {
		for _, name := range names {
			for c := int32(first + 1); c < d.nodes[first].next; c = d.nodes[c].next {
				if n := &d.nodes[c]; strings.EqualFold(string(d.raw(n.key)), name) && n.kind < array {
					var b strings.Builder
					b.WriteString(each)
					writeStep(&b, d, n, 0)
					return b.String()
				}
			}
		}
		return ""
	}
	value, key := member("value", "val", "v"), member("name", "id", "key", "tag", "tagname", "signal", "metric", "n")
	if value == "" || key == "" {
		return t
	}
	t = Topic{Value: value, Key: key, Signal: "{key}"}
	if c, unit := d.timeIn(first, now); c >= 0 {
		t.Time, t.TimeUnit = member(string(d.raw(d.nodes[c].key))), unit
	}
	if q := member("quality", "q"); q != "" {
		t.Quality.Path = q
	}
	return t
}

// signals declares what the messages hold, by the topics as they are proposed.
func (p *Proposal) signals(list []*group, now mesh.Nanos) {
	if len(p.Config.Topics) == 0 {
		return
	}
	c := p.Config
	c.Topics = slices.Clone(c.Topics)
	c.Signals = []Signal{{Name: "nothing is declared yet", Type: "bool"}}
	if err := c.Validate(); err != nil {
		p.note("%v", err)
		return
	}
	m, err := New(&c)
	if err != nil {
		p.note("%v", err)
		return
	}
	types := map[string]string{}
	for _, g := range list {
		for _, x := range g.messages {
			p.look(m, x, now, types)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(types)) {
		switch {
		case types[name] == "":
			p.note("%s had no value yet: declare it by hand", name)
		case len(p.Config.Signals) == maxProposed:
			p.note("more than %d signals: the rest is left out; a name with {x} declares many at once", maxProposed)
			return
		default:
			p.Config.Signals = append(p.Config.Signals, Signal{Name: name, Type: types[name]})
		}
	}
}

// look notes the types of what a message holds.
func (p *Proposal) look(m *Mapper, x Message, now mesh.Nanos, types map[string]string) {
	r := m.Route([]byte(x.Topic))
	if r == nil || r.heartbeat {
		return
	}
	out, all := m.Explain(r, x.Payload, now)
	for _, f := range out.Flaws {
		p.note("topic %s: %v", x.Topic, f.Fault)
	}
	for _, t := range all {
		if t.Name != "" {
			types[t.Name] = wider(types[t.Name], t)
			p.seen[t.Name] = t.Raw
		}
	}
}

// wider is a type that holds a value, and what had the type before.
func wider(before string, t Told) string {
	is := ""
	switch t.Kind {
	case "boolean":
		is = "bool"
	case "number":
		is = typeOfNumber(t.Raw)
	case "text":
		is = "string"
		if t.Place == "" { // a plain payload: whatever it looks like
			is = typeOfPlain(t.Raw)
		}
	}
	switch {
	case before == "" || before == is:
		return is
	case is == "":
		return before
	case before != "bool" && is != "bool" && before != "string" && is != "string":
		return "double"
	}
	return "string"
}

func typeOfNumber(raw string) string {
	if _, err := strconv.ParseInt(raw, 10, 64); err == nil {
		return "int"
	}
	if _, err := strconv.ParseUint(raw, 10, 64); err == nil {
		return "uint"
	}
	return "double"
}

func typeOfPlain(raw string) string {
	word := strings.TrimSpace(raw)
	switch strings.ToLower(word) {
	case "true", "false", "on", "off":
		return "bool"
	}
	var d document
	if d.parse([]byte(word)) == nil && d.nodes[0].kind == number {
		return typeOfNumber(word)
	}
	return "string"
}

// YAML are topics, heartbeat and signals as lines of a file, each with an indent.
func (p *Proposal) YAML(indent string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, indent+format+"\n", args...) }
	line("topics:")
	for _, t := range p.Config.Topics {
		line("  - {%s}", strings.Join(t.fields(), ", "))
	}
	if h := p.Config.Heartbeat; h.Topic != "" {
		line("heartbeat: {topic: %s, time: %s, time_unit: %s}", quote(h.Topic), quote(h.Time), h.TimeUnit)
	}
	line("signals:")
	for _, s := range p.Config.Signals {
		line("  - {name: %s, type: %s} # %s", quote(s.Name), s.Type, comment(p.seen[s.Name]))
	}
	return b.String()
}

func (t *Topic) fields() (out []string) {
	for _, f := range [][2]string{
		{"filter", t.Filter},
		{"signal", t.Signal},
		{"payload", t.Payload},
		{"value", t.Value},
		{"key", t.Key},
		{"split", t.Split},
		{"time", t.Time},
		{"time_unit", t.TimeUnit},
		{"time_zone", t.TimeZone},
		{"sequence", t.Sequence},
	} {
		if f[1] != "" {
			out = append(out, f[0]+": "+quote(f[1]))
		}
	}
	if q := t.Quality; q.Path != "" {
		in := "path: " + quote(q.Path)
		if q.As != "" {
			in += ", as: " + q.As
		}
		out = append(out, "quality: {"+in+"}")
	}
	return out
}

// quote is a text in YAML: as it is where that is safe.
func quote(s string) string {
	if regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*$`).MatchString(s) && !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(s)) {
		return s
	}
	return strconv.QuoteToASCII(s)
}

// comment is a value on one line.
func comment(raw string) string {
	if len(raw) > 40 {
		raw = raw[:40]
	}
	return strconv.Quote(strings.ToValidUTF8(raw, "?"))
}
