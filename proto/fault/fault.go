// Package fault names the points at which a test makes a program die or fail.
// Without the build tag faultinject they compile to nothing.
//
// With it, one point acts, as the environment says:
//
//	PLANTMESH_FAULT=name:exit137           at its first passing the process is gone, as after kill -9
//	PLANTMESH_FAULT=name:panic:hit=3       at the third passing
//	PLANTMESH_FAULT=name:err:hit=3+        Err says so from the third passing on
//
// and says on standard error that it does. Passings are counted in each process
// apart; workers inherit the environment.
package fault
