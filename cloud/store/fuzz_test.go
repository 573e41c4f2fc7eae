package store

import (
	"runtime/metrics"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
)

// allocated is what do takes from the heap, in bytes.
func allocated(do func()) uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	before := s[0].Value.Uint64()
	do()
	metrics.Read(s)
	return s[0].Value.Uint64() - before
}

// frugal fails where reading b takes more than each byte's worth times over, or
// what the test itself and its neighbours take beside.
func frugal(t *testing.T, b []byte, times int, do func()) {
	t.Helper()
	if n := allocated(do); n > uint64(times*len(b)+1<<20) {
		t.Errorf("%d bytes of memory taken to read %d", n, len(b))
	}
}

// accounts are such as ingest keeps: of one epoch, of several, with holes, with
// a branch off the chain.
func accounts(f *testing.F) (out []*mesh.Account) {
	f.Helper()
	epoch := func(n byte) mesh.Epoch { return mesh.Epoch{n, 0xff, 15: n} }
	must := func(err error) {
		if err != nil {
			f.Fatal(err)
		}
	}
	a := &mesh.Account{Log: agentLog}
	out = append(out, a.Clone())
	must(a.Open(epoch(1), mesh.Opening{}))
	must(a.Add(mesh.Range{Epoch: epoch(1), First: 1, Last: 300}))
	out = append(out, a.Clone())
	must(a.Open(epoch(2), mesh.Opening{Parent: mesh.Position{Log: agentLog, Epoch: epoch(1), Seq: 310}}))
	for i := range uint64(mesh.MaxIslands) {
		must(a.Add(mesh.Range{Epoch: epoch(2), First: 3 * (i + 1), Last: 3*(i+1) + 1}))
	}
	out = append(out, a.Clone())
	must(a.Graft(epoch(3), mesh.Opening{Parent: mesh.Position{Log: agentLog, Epoch: epoch(1), Seq: 200}}))
	must(a.Add(mesh.Range{Epoch: epoch(3), First: 1, Last: 1 << 39}))
	return append(out, a)
}

func sameAccount(a, b *mesh.Account) bool {
	return a.Log == b.Log && slices.Equal(a.Chain, b.Chain) && a.Set.Through == b.Set.Through && slices.Equal(a.Set.Islands, b.Set.Islands)
}

// FuzzAccount reads bytes as a stored account: what is read is written and read
// alike, and can be asked and added to.
func FuzzAccount(f *testing.F) {
	for _, a := range accounts(f) {
		b := encodeAccount(a)
		if got, err := decodeAccount(agentLog, b); err != nil || !sameAccount(got, a) {
			f.Fatalf("%+v reads back as %+v, %v", a, got, err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var a *mesh.Account
		var err error
		frugal(t, b, 512, func() { a, err = decodeAccount(agentLog, b) })
		if err != nil {
			return
		}
		again := encodeAccount(a)
		if got, err := decodeAccount(agentLog, again); err != nil || !sameAccount(got, a) {
			t.Fatalf("%+v reads back as %+v, %v", a, got, err)
		}
		use(t, a)
	})
}

// use does with an account what ingest does.
func use(t *testing.T, a *mesh.Account) {
	t.Helper()
	of := mesh.Position{Log: agentLog, Epoch: mesh.Epoch{9}, Seq: 1}
	for _, l := range a.Chain {
		a.Has(mesh.Position{Log: agentLog, Epoch: l.Epoch, Seq: l.End})
		of = mesh.Position{Log: agentLog, Epoch: l.Epoch, Seq: l.End}
	}
	a.Through()
	c := a.Clone()
	if c.Add(mesh.Range{Epoch: of.Epoch, First: 1, Last: 2}) == nil {
		a.Has(of)
	}
	if c.Open(mesh.Epoch{8}, mesh.Opening{Parent: of}) != nil {
		_ = c.Graft(mesh.Epoch{8}, mesh.Opening{Parent: of})
	}
	_ = c.Add(mesh.Range{Epoch: mesh.Epoch{8}, First: 1, Last: 5})
	if n := len(c.Set.Islands); n > max(mesh.MaxIslands, len(a.Set.Islands)) {
		t.Errorf("%d islands from %d", n, len(a.Set.Islands))
	}
}

// pasts are what stays of batches of two logs and the hub's own, of sources with
// and without rules, with clocks that jump.
func pasts() (out []past) {
	table, rules := mesh.Hash{1}, mesh.Hash{2}
	logs := []origin{{1, mesh.Epoch{1}}, {2, mesh.Epoch{2}}, {}, {1, mesh.Epoch{3}}}
	seqs := map[origin]uint64{}
	for i := range int64(40) {
		of := logs[i*i%4]
		seqs[of] += 1 + uint64(i%3)
		at := noon + mesh.Nanos(i)*1e9
		p := past{seq: 1000 + i, of: of, ofSeq: seqs[of], ord: mesh.Ordinal(of.log<<40) + mesh.Ordinal(seqs[of]), through: mesh.Ordinal(of.log<<40) + mesh.Ordinal(seqs[of]-1)}
		p.header = mesh.Header{Kind: mesh.KindBatch, About: []string{"a", "line1-opcua", ""}[i%3], Count: uint32(i * 100), Complete: at}
		p.header.Proven, p.header.Times = mesh.Span{From: at - 1e9, To: at}, mesh.Span{From: at - 9e8, To: at - 1e6}
		switch i % 5 {
		case 0:
			p.header.Needs = []mesh.Hash{table, rules}
		case 1:
			p.header.Needs = []mesh.Hash{table}
			p.header.Times.From = -1 << 63
		case 2:
			p.header.Times.To = 1<<63 - 1
		}
		out = append(out, p)
	}
	return out
}

// FuzzRun reads bytes as a run of what stays of batches.
func FuzzRun(f *testing.F) {
	all := pasts()
	f.Add(encodeRun([]past{all[4], all[3]})) // in no order
	for _, run := range [][]past{nil, all[:1], all[3:9], all} {
		b := encodeRun(run)
		if got, err := decodeRun(b); err != nil || !slices.EqualFunc(got, run, samePast) {
			f.Fatalf("%+v reads back as %+v, %v", run, got, err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var run []past
		var err error
		frugal(t, b, 1024, func() { run, err = decodeRun(b) })
		if err != nil {
			return
		}
		again := encodeRun(run)
		if got, err := decodeRun(again); err != nil || !slices.EqualFunc(got, run, samePast) {
			t.Fatalf("%+v reads back as %+v, %v", run, got, err)
		}
		for i := range run[min(1, len(run)):] {
			if run[i].seq >= run[i+1].seq {
				t.Errorf("sequence %d stands behind %d: who looks by halves doesn't find it", run[i+1].seq, run[i].seq)
			}
		}
	})
}

// FuzzSums reads bytes as a block of checksums.
func FuzzSums(f *testing.F) {
	var sums []sum
	for i, p := range pasts() {
		sums = append(sums, sum{uint8(6 * i), uint32(i) * 0x9e3779b9, int64(i / 20), p.seq})
	}
	f.Add(encodeSums([]sum{{at: 6}, {at: 2}})) // in no order
	for _, s := range [][]sum{nil, sums[:1], sums} {
		b := encodeSums(s)
		if got, err := decodeSums(b); err != nil || !slices.Equal(got, s) {
			f.Fatalf("%+v reads back as %+v, %v", s, got, err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var sums []sum
		var err error
		frugal(t, b, 64, func() { sums, err = decodeSums(b) })
		if err != nil {
			return
		}
		again := encodeSums(sums)
		if got, err := decodeSums(again); err != nil || !slices.Equal(got, sums) {
			t.Fatalf("%+v reads back as %+v, %v", sums, got, err)
		}
		for i := range sums[min(1, len(sums)):] {
			if sums[i].at >= sums[i+1].at {
				t.Errorf("place %d stands behind %d: who looks by halves doesn't find it", sums[i+1].at, sums[i].at)
			}
		}
	})
}
