package answer

import (
	"strconv"
	"strings"
)

// Cell is a text of a CSV that no spreadsheet takes for a formula: who names a node, or
// sends a text, must not have one run where the file is opened. What begins with = + - @, a
// tab or a return, and is no number, gets a quote before it (OWASP, CSV injection).
func Cell(text string) string {
	if text == "" || !strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return text
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return text
	}
	return "'" + text
}
