package attack

import "testing"

// TestAttack is the table of what is tried at one hub; S01, S06 and S07 (two each), S12, C04 and C08 have
// hubs of their own, which they use up.
func TestAttack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	t.Run("rows", func(t *testing.T) {
		for id, row := range map[string]func(*testing.T, *rig){
			"S02 one key, many at once":                   s02,
			"S03 a reply that was lost":                   s03,
			"S04 subjects of others":                      s04,
			"S05 revoked, live and again":                 s05,
			"S04 subjects of others, over WebSocket":      s04w,
			"S05 revoked, over WebSocket":                 s05w,
			"S08 bytes again, forged positions":           s08,
			"S09 garbage":                                 s09,
			"S11 other people's machines":                 s11,
			"C01 forged forms":                            c01,
			"C02 guessed passwords, planted sessions":     c02,
			"C03 headers of every answer":                 c03,
			"C05 what a machine says is text":             c05,
			"C06 paths, hosts, redirects":                 c06,
			"C07 event stream without, and after, access": c07,
		} {
			t.Run(id, func(t *testing.T) {
				t.Parallel()
				row(t, r)
			})
		}
	})
	hidden(t, r)
}
