//go:build !linux

package torture

// Without Linux there is no such disk: what needs one is skipped before.
func r06(x *trial) { x.Skip("skipped: only Linux cuts the power of a disk on command") }
func r07(x *trial) { r06(x) }
func r08(x *trial) { r06(x) }
func r09(x *trial) { r06(x) }
func m01(x *trial) { r06(x) }
func d01(x *trial) { r06(x) }
func d02(x *trial) { r06(x) }
func d17(x *trial) { r06(x) }
