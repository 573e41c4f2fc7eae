package sim

import (
	"plantmesh/proto/mesh"
	"plantmesh/proto/meshtest"
)

// book is the ledger of a run, and what each batch that was ever sealed holds.
type book struct {
	meshtest.Ledger

	batches map[string]sealedBatch // by its bytes
}

type sealedBatch struct {
	d       *device
	samples []int
}

func (b *book) emit(d *device, sample int, pub mesh.Nanos) {
	b.Emit(meshtest.Sample{Source: d.source, N: sample}, d.at(sample), pub)
}

func (b *book) told(d *device, sample int) { b.Tell(meshtest.Sample{Source: d.source, N: sample}) }

func (b *book) sealed(d *device, sealed []byte, samples []int) {
	b.batches[string(sealed)] = sealedBatch{d, samples}
}
