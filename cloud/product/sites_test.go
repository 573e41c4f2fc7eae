package product

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

const sitesFile = `site: s
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
  - {id: late, start: "14:00", end: "22:00"}
  - {id: night, start: "22:00", end: "06:00"}
equipment:
  - {id: m, line: l, kind: k, source: src, signals_prefix: "m."}
`

func with(t *testing.T, s *Sites, from mesh.Nanos, src string) *Sites {
	t.Helper()
	next, since, ok, err := s.With(mesh.Span{From: from, To: 1<<63 - 1}, []byte(src))
	if err != nil || !ok || since != from {
		t.Fatalf("%v %v from %s: %v", ok, since, from, err)
	}
	return next
}

// A shift under way when the calendar changes ends as it was meant to, the
// next begins there and ends by the new calendar.
func TestSites_AWindowUnderWayEndsAsItWasMeantTo(t *testing.T) {
	day := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	utc := func(h, m int) mesh.Nanos {
		return mesh.NanosOf(day.Add(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute))
	}
	s := with(t, nil, -1<<63, sitesFile)
	s = with(t, s, utc(6, 20), strings.NewReplacer(`"06:00", end: "14:00"`, `"06:30", end: "15:00"`, `"14:00", end`, `"15:00", end`, `end: "06:00"`, `end: "06:30"`).Replace(sitesFile))
	var got []string
	for _, w := range s.Windows(WindowShift, mesh.Span{From: utc(4, 0), To: utc(24, 0)}) {
		got = append(got, w.From.Time().Format("15:04")+" "+w.To.Time().Format("15:04")+" "+w.ShiftID)
	}
	want := []string{"04:00 12:00 2026-06-01-early", "12:00 13:00 2026-06-01-early", "13:00 20:00 2026-06-01-late", "20:00 04:30 2026-06-01-night"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("shifts are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Whatever changes when: windows of a kind touch and never overlap, each is
// whole cells, and nothing before a change depends on it.
func TestSites_WindowsAndCellsTile(t *testing.T) {
	clocks := []string{"06:00", "14:00", "22:00", "02:30", "05:15", "13:45", "21:00"}
	start := mesh.NanosOf(time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC)) // the clock springs on the 29th
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 5))
		file := func() string {
			a, b, c := clocks[rng.IntN(7)], clocks[rng.IntN(7)], clocks[rng.IntN(7)]
			if a == b || b == c || a == c || a > b || b > c {
				a, b, c = "06:00", "14:00", "22:00"
			}
			src := strings.NewReplacer(`day_start: "06:00"`, `day_start: "`+clocks[rng.IntN(7)]+`"`, `start: "06:00"`, `start: "`+a+`"`, `end: "14:00"`, `end: "`+b+`"`,
				`start: "14:00"`, `start: "`+b+`"`, `end: "22:00"`, `end: "`+c+`"`, `start: "22:00"`, `start: "`+c+`"`, `end: "06:00"`, `end: "`+a+`"`).Replace(sitesFile)
			return src + "mapping_version: \"" + a + b + c + clocks[rng.IntN(7)] + "\"\n"
		}
		s := with(t, nil, -1<<63, file())
		for range 1 + rng.IntN(4) {
			from := start.Add(time.Duration(rng.IntN(4*24*60)) * time.Minute)
			next, _, ok, err := s.With(mesh.Span{From: from, To: 1<<63 - 1}, []byte(file()))
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				continue
			}
			for range 50 {
				at := start.Add(time.Duration(rng.IntN(5*24*60)) * time.Minute)
				was, isNow := s.cell(at), next.cell(at)
				if at < from && (was.From != isNow.From || was.To != isNow.To) {
					t.Fatalf("seed %d: the cell of %s is %v, was %v, though the change is at %s", seed, at, isNow.Span, was.Span, from)
				}
				for _, kind := range []WindowKind{WindowHour, WindowShift, WindowDay} {
					x, _ := s.Window(kind, at)
					if y, _ := next.Window(kind, at); x.From < from && x.Span != y.Span {
						t.Fatalf("seed %d: %s of %s is %v, was %v, though the change is at %s", seed, kind, at, y, x, from)
					}
				}
			}
			s = next
		}
		b, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if s, err = DecodeSites(b); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []WindowKind{WindowHour, WindowShift, WindowDay} {
			windows := s.Windows(kind, mesh.Span{From: start, To: start.Add(6 * 24 * time.Hour)})
			for i, w := range windows {
				if i > 0 && windows[i-1].To > w.From || w.Empty() {
					t.Fatalf("seed %d: %s %v behind %v", seed, kind, w, windows[max(i-1, 0)])
				}
				if s.cell(w.From).From != w.From || s.cell(w.To-1).To != w.To {
					t.Fatalf("seed %d: %s %s to %s is no whole cells: %v %v", seed, kind, w.From, w.To, s.cell(w.From).Span, s.cell(w.To-1).Span)
				}
				for range 5 {
					at := w.From + mesh.Nanos(rng.Int64N(int64(w.To-w.From)))
					if again, ok := s.Window(kind, at); !ok || again.Span != w.Span {
						t.Fatalf("seed %d: %s of %s is %v, want %v", seed, kind, at, again, w)
					}
				}
			}
		}
		for at, end := start, start.Add(6*24*time.Hour); at < end; {
			c := s.cell(at)
			if c.From != at && at != start || c.To <= at {
				t.Fatalf("seed %d: the cell at %s is %v", seed, at, c.Span)
			}
			at = c.To
		}
	}
}

func TestSites_NothingNewIsNothing(t *testing.T) {
	s := with(t, nil, -1<<63, sitesFile)
	if _, _, ok, err := s.With(mesh.Span{From: 5, To: 1<<63 - 1}, []byte(sitesFile)); ok || err != nil {
		t.Errorf("the same file is news: %v", err)
	}
	gone := strings.Replace(sitesFile, "id: m", "id: n", 1)
	next := with(t, with(t, s, 100, gone), 50, sitesFile+"min_coverage: 0.2\n")
	if got := strings.Join(next.Equipment(), " "); got != "m n" {
		t.Errorf("equipment there ever was: %s", got)
	}
	if len(next.Revisions()) != 2 || next.Index(49) != 0 || next.Index(50) != 1 || next.Last().Find("n") != nil {
		t.Errorf("revisions are %v", next.Revisions())
	}
}

func TestParseSite_ValidFrom(t *testing.T) {
	s, err := ParseSite("site.yaml", []byte(sitesFile+"valid_from: \"2026-06-01T06:00:00+02:00\"\nretired_agents: [gw-1]\n"))
	if err != nil || s.ValidFrom.Time().Hour() != 4 || len(s.RetiredAgents) != 1 {
		t.Fatalf("%+v %v", s, err)
	}
	_, err = ParseSite("site.yaml", []byte(sitesFile+"valid_from: yesterday\n"))
	if err == nil || !strings.Contains(err.Error(), "site.yaml:10: \"yesterday\" is no instant") {
		t.Errorf("%v", err)
	}
}
