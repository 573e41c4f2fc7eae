package ingest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// memory is the store's contract without a disk. deploy/e2e runs ingest on the
// real one.
type memory struct {
	mu       sync.Mutex // protects all below
	entries  []mesh.Entry
	end      mesh.Position
	accounts map[mesh.LogID]*mesh.Account
	descs    map[mesh.Hash]mesh.Descriptor
	place    mesh.Place
}

func newMemory() *memory {
	return &memory{accounts: map[mesh.LogID]*mesh.Account{}, descs: map[mesh.Hash]mesh.Descriptor{}}
}

func (m *memory) OpenLog(_ context.Context, partition int) (mesh.Opened, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sealed, err := wire.SealOpening(mesh.Opening{Parent: m.end})
	if err != nil {
		return mesh.Opened{}, err
	}
	var before []mesh.Epoch
	if !m.end.IsZero() {
		before = append(before, m.end.Epoch)
	}
	m.end = mesh.Position{Log: mesh.LogID(fmt.Sprintf("hub/%d", partition)), Epoch: mesh.NewEpoch(), Seq: 1}
	m.entries = append(m.entries, mesh.Entry{At: m.end, Header: mesh.Header{Kind: mesh.KindOpening}, Sealed: sealed})
	o := mesh.Opened{End: m.end, Before: before, Accounts: map[mesh.LogID]*mesh.Account{}, Place: m.place}
	for log, a := range m.accounts {
		o.Accounts[log] = a.Clone()
	}
	return o, nil
}

func (m *memory) Take(_ context.Context, t mesh.Take) (mesh.Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.After != m.end {
		return mesh.Position{}, mesh.ErrMoved
	}
	for _, e := range t.Entries {
		for _, o := range m.entries {
			if !e.Of.IsZero() && o.Of == e.Of {
				return mesh.Position{}, fmt.Errorf("%s is stored already", e.Of)
			}
		}
	}
	for _, e := range t.Entries {
		m.end.Seq++
		e.At, e.Sealed = m.end, bytes.Clone(e.Sealed)
		m.entries = append(m.entries, e)
	}
	for _, a := range t.Accounts {
		m.accounts[a.Log] = a.Clone()
	}
	for _, d := range t.Descriptors {
		d.Content = bytes.Clone(d.Content)
		m.descs[d.Hash()] = d
	}
	m.place = t.Place
	return m.end, nil
}

func (m *memory) Descriptor(_ context.Context, h mesh.Hash) (mesh.Descriptor, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.descs[h]
	return d, ok, nil
}

func (m *memory) Sums(_ context.Context, of []mesh.Position) (map[mesh.Position]uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[mesh.Position]uint32{}
	for _, p := range of {
		for _, e := range m.entries {
			if e.Of == p {
				out[p] = binary.LittleEndian.Uint32(e.Sealed[len(e.Sealed)-4:])
			}
		}
	}
	return out, nil
}

// all are the entries of the log.
func (m *memory) all() []mesh.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]mesh.Entry(nil), m.entries...)
}

func (m *memory) account(log mesh.LogID) *mesh.Account {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.accounts[log].Clone()
}
