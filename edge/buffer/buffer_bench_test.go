package buffer

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"plantmesh/proto/mesh"
)

// BenchmarkBuffer_Append appends windows of four sources with 1,000 samples
// each: one transaction, one fsync. Compare with BenchmarkNaive_Append.
func BenchmarkBuffer_Append(b *testing.B) {
	cfg := testConfig(b.TempDir())
	cfg.MaxBytes, cfg.SegmentBytes = 64<<30, 64<<20
	buf := mustOpen(b, cfg)
	var offers []mesh.Offer
	for _, source := range []string{"a", "b", "c", "d"} {
		offers = append(offers, offer(b, source, 1, 1000))
	}
	b.ReportAllocs()
	for b.Loop() {
		mustAppend(b, buf, offers...)
	}
	b.ReportMetric(float64(b.N)*4000/b.Elapsed().Seconds(), "values/s")
}

// BenchmarkNaive_Append is what one writes first: a key for each sample, the
// same 4,000 in one transaction.
func BenchmarkNaive_Append(b *testing.B) {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "naive"), 0o600, nil)
	check(b, err)
	defer func() { check(b, db.Close()) }()
	key := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		check(b, db.Update(func(t *bbolt.Tx) error {
			bucket, err := t.CreateBucketIfNotExists([]byte("samples"))
			if err != nil {
				return err
			}
			for range 4000 {
				key++
				if err := bucket.Put(binary.BigEndian.AppendUint64(nil, key), make([]byte, 32)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	b.ReportMetric(float64(b.N)*4000/b.Elapsed().Seconds(), "values/s")
}

// BenchmarkBuffer_Peek reads the log back in messages of 256 KiB.
func BenchmarkBuffer_Peek(b *testing.B) {
	cfg := testConfig(b.TempDir())
	cfg.MaxBytes, cfg.SegmentBytes = 1<<30, 16<<20
	buf := mustOpen(b, cfg)
	for i := range 1000 {
		mustAppend(b, buf, offer(b, "a", mesh.Nanos(i*1000), 1000))
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n += len(all(b, buf))
	}
	b.ReportMetric(float64(n)*1000/b.Elapsed().Seconds(), "values/s")
}
