//go:build !linux

package torture

// Without Linux there are no such networks: what needs one is skipped before.
func n02(x *trial) { x.Skip("skipped: only Linux gives an agent a network of its own") }
