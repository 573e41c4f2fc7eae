package hub

import (
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/cloud/product/runner"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

const restartSite = `
site: graz
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
  - {id: late, start: "14:00", end: "22:00"}
  - {id: night, start: "22:00", end: "06:00"}
ideal_cycle_seconds:
  filler: {a: 0.5, b: 0.25}
equipment:
  - {id: m1, line: l1, name: M1, kind: filler, source: s1, signals_prefix: l1.m1.}
  - {id: m2, line: l1, name: M2, kind: filler, source: s1, signals_prefix: l1.m2.}
`

// BenchmarkRestart is a hub that begins again beside so many days of history: until
// its products, which made rows of it before, have caught up, and how much of the
// heap that takes at most. anew is a hub of a program that makes them in another way.
func BenchmarkRestart(b *testing.B) {
	for _, days := range []int{2, 20} {
		b.Run(fmt.Sprintf("days=%d", days), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "hub.db")
			fillHistory(b, path, days)
			for _, version := range []string{"", "+%d"} {
				b.Run(map[string]string{"": "begun", "+%d": "anew"}[version], func(b *testing.B) {
					var peak uint64
					for i := range b.N {
						defs, err := product.Definitions()
						fatal(b, err)
						for _, d := range defs {
							if version != "" {
								d.Version += fmt.Sprintf(version, i+b.N)
							}
						}
						peak = max(peak, restart(b, path, defs))
					}
					b.ReportMetric(float64(peak)/(1<<20), "MiB-peak")
				})
			}
		})
	}
}

// restart gives the largest heap while products catch up.
func restart(b *testing.B, path string, defs []*product.Definition) (peak uint64) {
	b.Helper()
	s, err := store.Open(b.Context(), path, quiet())
	fatal(b, err)
	b.StopTimer()
	runtime.GC()
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	began := now.HeapAlloc
	stop, ended, most := make(chan struct{}), make(chan struct{}), atomic.Uint64{}
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most.Store(max(most.Load(), m.HeapAlloc))
			}
		}
	}()
	b.StartTimer()
	set, err := runner.NewSetOf(defs, runner.Config{Kept: s.Kept}, s, s, runner.Clock{Now: func() mesh.Nanos { return mesh.NanosOf(time.Now()) }, Log: quiet()})
	fatal(b, err)
	fatal(b, set.Flush(b.Context()))
	b.StopTimer()
	close(stop)
	<-ended
	if len(set.Suspended()) > 0 {
		b.Fatalf("suspended: %v", set.Suspended())
	}
	fatal(b, s.Close())
	b.StartTimer()
	return most.Load() - min(began, most.Load())
}

func fatal(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// fillHistory makes days of two machines, 16 signals every ten seconds, that
// products have read and that are chunks but for the last hour.
func fillHistory(b *testing.B, path string, days int) {
	b.Helper()
	s, err := store.Open(b.Context(), path, quiet())
	fatal(b, err)
	o, err := s.OpenLog(b.Context(), 0)
	fatal(b, err)
	set, err := runner.NewSet(runner.Config{}, s, s, runner.Clock{Now: func() mesh.Nanos { return mesh.NanosOf(time.Now()) }, Log: quiet()})
	fatal(b, err)
	enc, err := wire.NewEncoder()
	fatal(b, err)
	var signals []mesh.Signal
	for _, m := range []string{"l1.m1.", "l1.m2."} {
		for _, r := range []string{"state", "mode", "produced", "scrap", "energy", "order", "product", "stop_reason"} {
			signals = append(signals, mesh.Signal{ID: uint32(len(signals) + 1), Name: m + r})
		}
	}
	table, err := wire.DescribeSignals(signals)
	fatal(b, err)
	acc := &mesh.Account{Log: "agent/graz/gw-1"}
	at := mesh.Position{Log: acc.Log, Epoch: mesh.Epoch{5}, Seq: 1}
	fatal(b, acc.Open(at.Epoch, mesh.Opening{}))
	fatal(b, acc.Add(mesh.Range{Epoch: at.Epoch, First: 1, Last: 1}))
	site := mesh.Descriptor{Kind: mesh.DescribeSite, Content: []byte(restartSite)}
	fact, err := wire.SealFact(mesh.Fact{About: "site/graz", Valid: mesh.Span{From: -1 << 63, To: 1<<63 - 1}, Descriptor: site.Hash()})
	fatal(b, err)
	h, err := wire.ParseHeader(fact)
	fatal(b, err)
	end, err := s.Take(b.Context(), mesh.Take{After: o.End, Entries: []mesh.Entry{{Header: h, Sealed: fact}}, Descriptors: []mesh.Descriptor{site, table}})
	fatal(b, err)
	first := mesh.NanosOf(time.Date(2026, 3, 1, 5, 0, 0, 0, time.UTC))
	for hour := range days * 24 {
		var entries []mesh.Entry
		for minute := range 60 {
			from := first.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
			to := from.Add(time.Minute)
			at.Seq++
			sealed, err := enc.Seal(&mesh.Batch{Source: "s1", Table: table.Hash(), Proven: mesh.Span{From: from, To: to}, Complete: to, Samples: minuteOf(signals, from)})
			fatal(b, err)
			h, err := wire.ParseHeader(sealed)
			fatal(b, err)
			fatal(b, acc.Add(mesh.Range{Epoch: at.Epoch, First: at.Seq, Last: at.Seq}))
			ord, _ := acc.Ordinal(at)
			entries = append(entries, mesh.Entry{Of: at, Ord: ord, Through: acc.Through(), Header: h, Sealed: sealed})
		}
		was := end
		end, err = s.Take(b.Context(), mesh.Take{After: end, Entries: entries, Accounts: []*mesh.Account{acc}})
		fatal(b, err)
		fatal(b, set.Flush(b.Context()))
		_, err = s.Compact(b.Context(), store.Pass{Through: was, Now: first.Add(time.Duration(hour) * time.Hour)})
		fatal(b, err)
	}
	fatal(b, s.Close())
}

// minuteOf is a minute of every signal, one sample in ten seconds.
func minuteOf(signals []mesh.Signal, from mesh.Nanos) (out []mesh.Sample) {
	for i := range signals {
		for k := range 6 {
			at := from.Add(time.Duration(k) * 10 * time.Second)
			n := int64(at) / int64(10*time.Second)
			v := mesh.Int(n % 1_000_000_000)
			switch signals[i].Name[6:] {
			case "state":
				v = mesh.Int([]int64{6, 6, 6, 11, 9, 2}[n/90%6])
			case "mode":
				v = mesh.Int(1)
			case "scrap":
				v = mesh.Int(n / 40 % 1_000_000_000)
			case "energy":
				v = mesh.Double(float64(n%1_000_000_000) / 8)
			case "order", "product":
				v = mesh.Text([]string{"a", "b"}[n/1000%2])
			case "stop_reason":
				v = mesh.Int(n / 90 % 4)
			}
			out = append(out, mesh.Sample{Signal: signals[i].ID, Time: at, Value: v, Agent: at})
		}
	}
	return out
}
