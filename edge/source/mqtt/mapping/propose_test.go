package mapping

import (
	"slices"
	"strings"
	"testing"

	"plantmesh/proto/strict"
)

func TestPropose_Shapes(t *testing.T) {
	for _, c := range []struct {
		name     string
		messages []Message
		want     []string // lines of the file
		notes    []string
	}{
		{"objects of two machines, and a heartbeat", []Message{
			{"plant/l3/filler", []byte(`{"ts":1767268800000,"speed":1,"on":true}`)},
			{"plant/l3/filler", []byte(`{"ts":1767268801000,"speed":1.5,"order":"x"}`)},
			{"plant/l3/capper", []byte(`{"ts":1767268801000,"speed":2}`)},
			{"plant/l3/heartbeat", []byte(`{"ts":1767268801000}`)},
		}, []string{
			`- {filter: "plant/l3/{machine}", signal: "{topic}.{key}", time: ts, time_unit: ms}`,
			`heartbeat: {topic: plant/l3/heartbeat, time: ts, time_unit: ms}`,
			`- {name: plant.l3.capper.speed, type: int} # "2"`,
			`- {name: plant.l3.filler.on, type: bool} # "true"`,
			`- {name: plant.l3.filler.order, type: string} # "x"`,
			`- {name: plant.l3.filler.speed, type: double} # "1.5"`,
		}, nil},
		{"plain values", []Message{{"a/b/temp", []byte("21.5")}, {"a/b/state", []byte("RUN")}, {"a/c/temp", []byte("20")}, {"a/c/on", []byte("OFF")}}, []string{
			`- {filter: "a/{machine}/{signal}", signal: "{topic}", payload: plain}`,
			`- {name: a.b.state, type: string} # "RUN"`, `- {name: a.b.temp, type: double} # "21.5"`, `- {name: a.c.on, type: bool} # "OFF"`, `- {name: a.c.temp, type: int} # "20"`,
		}, []string{"nothing proves that silence is silence"}},
		{"one value each, in seconds, with its quality", []Message{{"s/temp", []byte(`{"value":3,"time":1767268800.25,"q":192,"seq":7}`)}}, []string{
			`- {filter: s/temp, signal: "{topic}", value: value, time: time, time_unit: s, sequence: seq, quality: {path: q, as: opcda}}`, `- {name: s.temp, type: int} # "3"`,
		}, nil},
		{"kepware", []Message{{"iot", []byte(`{"timestamp":1767268800000,"values":[{"id":"Ch.D.T","v":1.5,"q":true,"t":1767268800000}]}`)}}, []string{
			`- {filter: iot, signal: "{topic}.{key}", payload: kepware}`, `- {name: iot.Ch.D.T, type: double} # "1.5"`,
		}, nil},
		{"umh", []Message{{"umh/v1/a/b/speed", []byte(`{"timestamp_ms":1767268800000,"value":1}`)}}, []string{
			`- {filter: umh/v1/a/b/speed, signal: "{topic}", payload: umh}`, `- {name: umh.v1.a.b.speed, type: int} # "1"`,
		}, nil},
		{"named values with times in words", []Message{{"x", []byte(`{"readings":[{"name":"a b","value":1,"time":"2026-01-01T12:00:00Z","quality":"good"}]}`)}}, []string{
			`- {filter: x, signal: "{topic}.{key}", value: "readings[*].value", key: "readings[*].name", time: "readings[*].time", time_unit: text, quality: {path: "readings[*].quality"}}`,
			`- {name: "x.a%20b", type: int} # "1"`,
		}, nil},
		{"nested", []Message{{"x/m1", []byte(`{"t":1767268800000000,"motor":{"temp":1.5},"axes":[1,2]}`)}}, []string{
			`- {filter: x/m1, signal: "{topic}.{path}", time: t, time_unit: us}`, `- {name: x.m1.axes.0, type: int} # "1"`, `- {name: x.m1.motor.temp, type: double} # "1.5"`,
		}, nil},
		{"nothing of use", []Message{{"$SYS/broker/uptime", []byte("7")}}, []string{"topics:", "signals:"}, nil},
		{"no value yet", []Message{{"x/m1", []byte(`{"speed":null,"n":18446744073709551615}`)}}, []string{`- {name: x.m1.n, type: uint} # "18446744073709551615"`}, []string{"x.m1.speed had no value yet"}},
		{"hostile names", []Message{{"a/\"}, {x: y/🍺", []byte("1")}}, []string{`signal: "{topic}"`}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Propose(c.messages, noon)
			text := p.YAML("")
			for _, want := range c.want {
				if !slices.ContainsFunc(strings.Split(text, "\n"), func(l string) bool { return strings.Contains(l, want) }) {
					t.Errorf("lacks %s:\n%s", want, text)
				}
			}
			for _, want := range c.notes {
				if !strings.Contains(strings.Join(p.Notes, "\n"), want) {
					t.Errorf("notes %q lack %q", p.Notes, want)
				}
			}
			if len(p.Config.Signals) == 0 {
				return
			}
			var read Config
			if _, err := strict.Parse("x.yaml", []byte(text), &read); err != nil {
				t.Fatalf("%v:\n%s", err, text)
			}
			if err := read.Validate(); err != nil {
				t.Fatalf("%v:\n%s", err, text)
			}
			m, err := New(&read)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range c.messages { // what was heard is taken
				var out Reading
				if r := m.Route([]byte(x.Topic)); r != nil && !r.Heartbeat() {
					m.Read(r, x.Payload, noon, &out)
					if len(out.Samples) == 0 || len(out.Flaws) > 0 {
						t.Errorf("%s: %s", x.Topic, inWords(m, &out))
					}
				} else if r == nil {
					t.Errorf("%s is foreign", x.Topic)
				}
			}
		})
	}
}

// Whatever a broker says, the file is one that is read.
func FuzzPropose(f *testing.F) {
	f.Add("a/b", []byte(`{"ts":1767268800000,"v":1}`), "a/c", []byte("x"))
	f.Add("a/\xff", []byte("1"), "{b}/{", []byte("2"))
	f.Add("a\n/: {", []byte(`[{"name":"\u0000","value":"\ud800"}]`), "umh/v1", []byte(`{"timestamp_ms":1}`))
	f.Fuzz(func(t *testing.T, topic1 string, payload1 []byte, topic2 string, payload2 []byte) {
		p := Propose([]Message{{topic1, payload1}, {topic2, payload2}}, noon)
		if len(p.Config.Signals) == 0 {
			return
		}
		var read Config
		if _, err := strict.Parse("x.yaml", []byte(p.YAML("  ")), &read); err != nil {
			t.Fatalf("%v:\n%s", err, p.YAML("  "))
		}
		if err := read.Validate(); err != nil {
			t.Fatalf("%v:\n%s", err, p.YAML("  "))
		}
	})
}

func TestMapper_ExplainTellsOfEachValue(t *testing.T) {
	m := mapper(t, `
topics: [{filter: "{l}/{m}", signal: "{l}.{m}.{path}", time: ts}, {filter: p, signal: p, payload: plain}]
signals: [{name: a.b.x, type: int, when: value > 0}, {name: a.b.y.0.z, type: int}, {name: p, type: double}]
`)
	out, all := m.Explain(m.Route([]byte("a/b")), []byte(`{"ts":1767268800000,"x":-1,"y":[{"z":5}],"q.r":"s","n":null}`), noon)
	var got []string
	for _, x := range all {
		line := x.Place + " " + x.Kind + " " + x.Raw + " " + x.Name
		if x.Sample.Agent != 0 {
			line += " = " + x.Sample.Value.String()
		}
		got = append(got, line+" "+x.Declare())
	}
	want := []string{
		"x number -1 a.b.x - {name: a.b.x, type: int}", "y[0].z number 5 a.b.y.0.z = 5 - {name: a.b.y.0.z, type: int}",
		`["q.r"] text s a.b.q%2Er - {name: "a.b.q%2Er", type: string}`, "n null null a.b.n ",
	}
	if !slices.Equal(got, want) || out.Skipped != 1 || out.Unknown != 2 {
		t.Errorf("got\n%s\n%+v", strings.Join(got, "\n"), out)
	}
	if _, all := m.Explain(m.Route([]byte("p")), []byte("x"), noon); len(all) != 1 || all[0].Raw != "x" || all[0].Why == nil || all[0].Sample.Agent == 0 {
		t.Errorf("plain: %+v", all)
	}
	if _, all := m.Explain(m.Route([]byte("a/b")), []byte(`{"ts":1767268800000,"y":[{"z":5,"z":6}]}`), noon); len(all) != 2 || all[0].Sample.Value.String() != "" || all[1].Why == nil {
		t.Errorf("twice: %+v", all)
	}
}
