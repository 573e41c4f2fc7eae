// Package sim is a deterministic simulation over the real rooms: buffer,
// forward, ingest, accounting, product, port, joined by their step seams, over
// models of disk, store and stream. One schedule is a list of events from a
// seed; the same seed is the same run, and a failing one shrinks to the few
// events it needs.
//
//	device ─► source ─► buffer ─► forward ─► stream ─► ingest ─► store ─► product ─► port ─► consumer
//	model     model     REAL      REAL       model     REAL      model    REAL       REAL    model
//	                    over a                                   of SQLite
//	                    model of
//	                    bbolt
package sim
