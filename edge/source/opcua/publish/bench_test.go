package publish

import (
	"testing"

	"github.com/gopcua/opcua/ua"
)

func perValue(b *testing.B, message []byte, decode func([]byte) error) {
	b.Helper()
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if err := decode(message); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/value")
}

func library(message []byte) error {
	var r ua.PublishResponse
	_, err := ua.Decode(message, &r)
	return err
}

func BenchmarkDoubles(b *testing.B) {
	var m Message
	perValue(b, thousand(false), m.DecodePublish)
}

func BenchmarkMixed(b *testing.B) {
	var m Message
	perValue(b, thousand(true), m.DecodePublish)
}

func BenchmarkDoubles_Library(b *testing.B) { perValue(b, thousand(false), library) }
func BenchmarkMixed_Library(b *testing.B)   { perValue(b, thousand(true), library) }
