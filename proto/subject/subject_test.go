package subject

import (
	"strings"
	"testing"
	"testing/quick"
	"unicode/utf8"
)

func TestEscape_IsOneTokenAndComesBack(t *testing.T) {
	for in, want := range map[string]string{
		"": "%", "filler": "filler", "Füller_1-a": "Füller_1-a", "a.b": "a%2Eb", "*": "%2A", ">": "%3E", "..": "%2E%2E", " ": "%20",
		"100%": "100%25", "%": "%25", "%2E": "%252E", "\xff": "%FF", "\uFFFD": "%EF%BF%BD", "a\x00b": "a%00b", "🍺": "%F0%9F%8D%BA", "a/b": "a%2Fb",
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
	comesBack := func(in string) bool {
		token := Escape(in)
		back, ok := Unescape(token)
		return ok && back == in && token != "" && utf8.ValidString(token) && !strings.ContainsAny(token, ".*> \t\r\n\x00/")
	}
	bytes := func(in []byte) bool { return comesBack(string(in)) } // any bytes, not only UTF-8
	for _, property := range []any{comesBack, bytes} {
		if err := quick.Check(property, nil); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "a.b", "%2", "%zz", "%41", "a b", "%2e"} {
		if _, ok := Unescape(bad); ok {
			t.Errorf("%q was taken for an escaped token", bad)
		}
	}
}

func TestToken_IsNATSSafe(t *testing.T) {
	for in, want := range map[string]string{"Line 1": "line-1", "a.b>*": "a-b--", "": "-", "ök": "-k", "gw_1-x": "gw_1-x"} {
		if got := Token(in); got != want {
			t.Errorf("Token(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestParseIngest_TakesBackWhatIngestMade(t *testing.T) {
	for _, road := range []Road{Live, Backlog} {
		site, agent, r, err := ParseIngest(Ingest("graz", "gw-1", road))
		if err != nil || site != "graz" || agent != "gw-1" || r != road {
			t.Errorf("got %s %s %s %v", site, agent, r, err)
		}
	}
	for _, bad := range []string{"", "ingest.v1.a.b", "ingest.v1.a.b.slow", "ingest.v2.a.b.live", "x.v1.a.b.live", "ingest.v1.a.b.c.live"} {
		if _, _, _, err := ParseIngest(bad); err == nil {
			t.Errorf("%q was taken for an ingest subject", bad)
		}
	}
}

// A publisher's rank is greater than the rank of what it consumes, so nobody
// can read the subject it writes.
func TestRank_GrowsAlongTheWalk(t *testing.T) {
	for _, w := range []struct{ who, reads, writes string }{
		{"forward", "", Ingest("a", "b", Live)},
		{"port/stream", Ingest("a", "b", Live), Product("production", "oee", "1", "a", "l", "m")},
	} {
		if w.reads != "" && Rank(w.reads) >= Rank(w.writes) {
			t.Errorf("%s writes %s (rank %d) and reads %s (rank %d)", w.who, w.writes, Rank(w.writes), w.reads, Rank(w.reads))
		}
	}
	for _, back := range []string{Receipt("a", "b"), Resume("a", "b")} {
		if Rank(back) != 0 {
			t.Errorf("%s carries positions only and stands outside the walk", back)
		}
	}
}
