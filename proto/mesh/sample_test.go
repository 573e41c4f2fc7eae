package mesh

import "testing"

func TestChoices_Text(t *testing.T) {
	states := &Choices{List: []Choice{{0, "off"}, {-1, "fault"}}}
	modes := &Choices{Bits: true, List: []Choice{{0, "manual"}, {2, "automatic"}, {63, "last"}, {64, "beyond"}}}
	for _, c := range []struct {
		of   *Choices
		v    Value
		want string
	}{
		{states, Int(0), "off"},
		{states, Int(-1), "fault"},
		{states, Int(1), ""},
		{states, Uint(0), "off"},
		{states, Double(0), ""},
		{modes, Uint(5), "manual, automatic"},
		{modes, Uint(1 << 63), "last"},
		{modes, Uint(7), ""}, // one of three has no name
		{modes, Uint(0), ""},
		{nil, Int(0), ""},
	} {
		if got := c.of.Text(c.v); got != c.want {
			t.Errorf("%v is %q, want %q", c.v, got, c.want)
		}
	}
}
