package source

import "testing"

// TestOneLine: what a device says goes to a terminal.
func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"a\nb\r\nc":              "a; b; c",
		"\x1b[2J\x1b[31mx":       "?[2J?[31mx",
		"a\x00\u009b\u202eb\xff": "a???b?",
		"Störung – 5 °C":         "Störung – 5 °C",
	} {
		if got := oneLine(text); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
