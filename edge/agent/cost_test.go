package agent

import (
	"math"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/buffer"
	"plantmesh/edge/source"
	"plantmesh/edge/status"
	"plantmesh/proto/strict"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > want/1000 {
		t.Errorf("%s is %g, want %g", what, got, want)
	}
}

// counted is an hour of one source at 1,000 values/s, as the buffer counts it:
// a window each second and a commit of the agent itself each five.
func counted() (c buffer.Commits, now time.Time) {
	now = time.Date(2026, 3, 1, 7, 0, 0, 0, time.UTC)
	return buffer.Commits{
		Since: now.Add(-time.Hour), Count: 3600 + 720, Batches: 3600, Took: 4320 * 5 * time.Millisecond, Slowest: 40 * time.Millisecond,
		Payload: 4320 * 4000, Written: 4320 * 24_000, Sources: map[string]buffer.SourceCount{"a": {Windows: 3600, Values: 3_600_000}},
	}, now
}

func window(latency time.Duration) map[string]source.Window {
	return map[string]source.Window{"a": {Latency: strict.Duration(latency), MaxSamples: 20_000}}
}

// TestDiskCosts_TheProfileInUseIsWhatWasMeasured and the other is reckoned from it.
func TestDiskCosts_TheProfileInUseIsWhatWasMeasured(t *testing.T) {
	c, now := counted()
	d := diskCosts(c, now, window(time.Second))
	near(t, "a commit", d.CommitMS, 5)
	near(t, "the slowest", d.SlowestMS, 40)
	near(t, "values a second", d.ValuesPerSec, 1000)
	near(t, "commits a minute", d.CommitsPerMin, 72)
	latency, flash := d.Profiles[0], d.Profiles[1]
	if latency.Profile != "latency" || !latency.InUse || flash.Profile != "flash" || flash.InUse {
		t.Fatalf("profiles %+v", d.Profiles)
	}
	near(t, "what latency writes a day", latency.WrittenPerDay, 4320*24*24_000)
	near(t, "what latency writes a commit", latency.WrittenPerCommit, 24_000)
	near(t, "what latency waits", latency.WithinSeconds, 1.04)
	near(t, "commits of flash", flash.CommitsPerDay, (900+720)*24)
	near(t, "what flash writes a day", flash.WrittenPerDay, 24*(4320*4000+1620*20_000))
	near(t, "what flash writes a value", flash.WrittenPerValue, (4320*4000+1620*20_000)/3.6e6)
	near(t, "what flash waits", flash.WithinSeconds, 4.04)
}

// TestDiskCosts_WhatAProfileCanNotChange: windows that are full or lonely close
// as often with either.
func TestDiskCosts_WhatAProfileCanNotChange(t *testing.T) {
	c, now := counted()
	c.Sources["a"] = buffer.SourceCount{Windows: 36_000, Values: 3600 * 200_000} // ten full ones a second
	c.Count, c.Batches = 36_720, 36_000
	d := diskCosts(c, now, window(time.Second))
	near(t, "full windows of flash", d.Profiles[1].CommitsPerDay, d.Profiles[0].CommitsPerDay)
	c.Sources["a"] = buffer.SourceCount{Windows: 60, Values: 60} // a value each minute
	c.Count, c.Batches = 60, 60
	d = diskCosts(c, now, window(time.Second))
	near(t, "lonely values of flash", d.Profiles[1].CommitsPerDay, 24*3600/63.0)
	c.Sources["a"] = buffer.SourceCount{Windows: 900, Values: 900 * 16_000} // flash is in use: 4,000 values/s
	c.Count, c.Batches = 900, 900
	d = diskCosts(c, now, window(4*time.Second))
	if !d.Profiles[1].InUse || d.Profiles[0].InUse {
		t.Errorf("profiles %+v", d.Profiles)
	}
	near(t, "windows of latency", d.Profiles[0].CommitsPerDay, 24*3600)
	c.Sources["a"] = buffer.SourceCount{Windows: 3600, Values: 3600 * 10_000}
	c.Count, c.Batches = 3600, 3600
	d = diskCosts(c, now, window(time.Second))
	near(t, "windows of flash, full after 2 s", d.Profiles[1].CommitsPerDay, 24*1800)
}

// TestDiskCosts_NothingIsSaidTooEarly: of nothing, or of a moment.
func TestDiskCosts_NothingIsSaidTooEarly(t *testing.T) {
	c, now := counted()
	c.Since = now.Add(-time.Second)
	for _, c := range []buffer.Commits{{}, c, {Since: now.Add(-time.Hour), Count: 3}} {
		d := diskCosts(c, now, window(time.Second))
		var text strings.Builder
		if err := (status.Snapshot{Disk: d}).Print(&text); err != nil || strings.Contains(text.String(), "disk ") || len(d.Profiles) > 0 {
			t.Errorf("of %+v is said %q, %v", c, text.String(), err)
		}
	}
}

// TestDiskCosts_InWords: what a technician reads.
func TestDiskCosts_InWords(t *testing.T) {
	c, now := counted()
	var text strings.Builder
	if err := (status.Snapshot{Disk: diskCosts(c, now, window(time.Second))}).Print(&text); err != nil {
		t.Fatal(err)
	}
	const want = "disk     a commit takes 5.0 ms here, the slowest 40.0 ms; 1000 values/s in 72 commits a minute since 2026-03-01T06:00:00Z: 2.49 GB a day written\n" +
		"  window profile latency  in use, writes 2.49 GB a day (23.4 KiB a commit, 28.8 bytes a value); values are on disk within 1.0 s\n" +
		"  window profile flash    would write    1.19 GB a day (29.9 KiB a commit, 13.8 bytes a value); values are on disk within 4.0 s\n"
	if !strings.Contains(text.String(), want) {
		t.Errorf("got\n%s\nwant\n%s", text.String(), want)
	}
}
