package mapping

import (
	"fmt"
	"testing"
	"time"
	_ "time/tzdata" // the zones must be there whatever this machine has

	"plantmesh/proto/mesh"
)

func TestInstant_Forms(t *testing.T) {
	for _, c := range []struct{ unit, zone, json, want string }{
		{"ms", "", `1767268800123`, "123ms"},
		{"ms", "", `"1767268800123"`, "123ms"},
		{"ms", "", `1.767268800123e12`, "123ms"},
		{"ms", "", `1767268800123.0`, "123ms"},
		{"ms", "", `1767268800123.5`, ""},
		{"ms", "", `"2026-01-01T12:00:00Z"`, ""},
		{"s", "", `1767268800`, "0s"},
		{"s", "", `1767268800.123456789`, "123.456789ms"},
		{"s", "", `1767268800.1234567899`, "123.456789ms"},
		{"s", "", `"1767268800.5"`, "500ms"},
		{"us", "", `1767268800000001`, "1µs"},
		{"ns", "", `1767268800000000001`, "1ns"},
		{"ns", "", `9223372036854775807`, ""},
		{"ns", "", `18446744073709551616`, ""},
		{"ms", "", `5`, ""},
		{"ms", "", `-1767268800123`, ""},
		{"ms", "", `1e400`, ""},
		{"ms", "", `1e-100000`, ""},
		{"ms", "", `1e100000`, ""},
		{"ms", "", `null`, ""},
		{"ms", "", `true`, ""},
		{"ms", "", `""`, ""},
		{"ms", "", `"-"`, ""},
		{"text", "", `1767268800`, ""},
		{"text", "", `"1767268800"`, ""},
		{"text", "", `"2026-01-01T12:00:00Z"`, "0s"},
		{"text", "", `"2026-01-01t12:00:00z"`, "0s"},
		{"text", "", `"2026-01-01 12:00:00Z"`, "0s"},
		{"text", "", `"2026-01-01T12:00:00.1Z"`, "100ms"},
		{"text", "", `"2026-01-01T12:00:00,1234567891Z"`, "123.456789ms"},
		{"text", "", `"2026-01-01T12:00:00.Z"`, ""},
		{"text", "", `"2026-01-01T13:00:00+01:00"`, "0s"},
		{"text", "", `"2026-01-01T06:30:00-05:30"`, "0s"},
		{"text", "", `"2026-01-01T06:30:00-0530"`, "0s"},
		{"text", "", `"2026-01-01T13:00:00+01"`, "0s"},
		{"text", "", `"20260101T120000Z"`, "0s"},
		{"text", "", `"20260101T120000.25+0000"`, "250ms"},
		{"text", "", `"20260101T1200Z"`, "0s"},
		{"text", "", `"2026-01-01T12:00Z"`, "0s"},
		{"text", "", `"2026-01-01T12:00:00"`, ""},
		{"text", "", `"2026-01-01T24:00:00Z"`, ""},
		{"text", "", `"2026-02-30T12:00:00Z"`, ""},
		{"text", "", `"2026-13-01T12:00:00Z"`, ""},
		{"text", "", `"2026-01-01T12:00:00Zx"`, ""},
		{"text", "", `"2026-01-01"`, ""},
		{"text", "", `"1970-01-01T12:00:00Z"`, ""},
		{"text", "", `"9999-01-01T12:00:00Z"`, ""},
		{"text", "", `"0000-01-01T12:00:00Z"`, ""},
		{"text", "Europe/Vienna", `"2026-01-01T13:00:00"`, "0s"},
		{"text", "Europe/Vienna", `"2026-01-01T12:00:00Z"`, "0s"},
		{"auto", "", `1767268800`, "0s"},
		{"auto", "", `1767268800.5`, "500ms"},
		{"auto", "", `1767268800001`, "1ms"},
		{"auto", "", `1767268800000001`, "1µs"},
		{"auto", "", `"1767268800000000001"`, "1ns"},
		{"auto", "", `1767268800000.5`, "500µs"},
		{"auto", "", `"2026-01-01T12:00:01Z"`, "1s"},
		{"auto", "", `17`, ""},
	} {
		f, err := compileForm(c.unit, c.zone, "it")
		if err != nil {
			t.Fatal(err)
		}
		var d document
		if err := d.parse([]byte(c.json)); err != nil {
			t.Fatal(err)
		}
		at, err := d.instant(0, &f, noon)
		got := ""
		if err == nil {
			got = at.Sub(noon).String()
		}
		if got != c.want {
			t.Errorf("%s as %s %s: got %q (%v), want %q", c.json, c.unit, c.zone, got, err, c.want)
		}
	}
}

// Whatever RFC 3339 the standard library writes, in whatever zone, is read as it was meant.
func TestCalendar_ReadsWhatTheLibraryWrites(t *testing.T) {
	at := earliest
	for i := 0; at < latest-40*24*3600*1e9; i++ {
		at += mesh.Nanos(i)*17_203_001_007 + 1
		zone := time.FixedZone("", (i%27-13)*3600+i%2*1800)
		for _, layout := range []string{time.RFC3339Nano, "20060102T150405.999999999Z0700"} {
			s := at.Time().In(zone).Format(layout)
			if got, ok := calendar([]byte(s), nil, noon); !ok || got != at {
				t.Fatalf("%s: %v, want %v", s, got, at)
			}
		}
	}
}

func TestOnTheWall_HourThatComesTwice(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Vienna")
	if err != nil {
		t.Fatal(err)
	}
	change := mesh.NanosOf(time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC)) // 03:00 becomes 02:00
	for _, c := range []struct {
		text string
		now  time.Duration // after the change
		want string
	}{
		{"2026-10-25T02:30:00", -30 * time.Minute, "-30m0s"},
		{"2026-10-25T02:30:00", 30 * time.Minute, "30m0s"},
		{"2026-10-25T02:30:00", 48 * time.Hour, "30m0s"},
		{"2026-10-25T01:59:59", 30 * time.Minute, "-1h0m1s"},
		{"2026-10-25T03:00:00", 30 * time.Minute, "1h0m0s"},
		{"2026-03-29T02:30:00", 30 * time.Minute, ""}, // left out
		{"2026-03-29T03:00:00", 30 * time.Minute, fmt.Sprint(time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC).Sub(change.Time()))},
	} {
		got := ""
		if at, ok := calendar([]byte(c.text), zone, change.Add(c.now)); ok {
			got = at.Sub(change).String()
		}
		if got != c.want {
			t.Errorf("%s, read %v after the change: %s, want %s", c.text, c.now, got, c.want)
		}
	}
}
