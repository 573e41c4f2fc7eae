package answer

import "testing"

func TestCell(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "filler": "filler", "-12.5": "-12.5", "+1e3": "+1e3", "-Inf": "-Inf", "a=b": "a=b",
		"=1+1": "'=1+1", "+cmd": "'+cmd", "-2+3": "'-2+3", "@SUM(A1)": "'@SUM(A1)", "\t=1": "'\t=1", "\r=1": "'\r=1", "-": "'-",
	} {
		if got := Cell(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
