package opcua

import (
	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
)

// values gives data values to the sealer.
func (r *Reader) values(values []publish.Value, now mesh.Nanos) error {
	for len(values) > 0 {
		if values = values[r.numbers(values, now):]; len(values) == 0 {
			break
		}
		if err := r.value(&values[0], now); err != nil {
			return err
		}
		values = values[1:]
	}
	return nil
}

// numbers takes values as long as there is nothing to say of them but a number and its
// time, as of most there isn't; it says how many. What it takes value would take alike.
func (r *Reader) numbers(values []publish.Value, now mesh.Nanos) int {
	if r.echo || len(r.state.Dead) > 0 {
		return 0
	}
	to, latest := r.sealer.Open(), now+mesh.Nanos(source.MaxAhead)
	for k := range values {
		v := &values[k]
		i, again, _ := r.state.signal(v.Handle)
		if i >= len(r.items) || again != r.again[i] || r.initial[i] || r.drifts[i] {
			return k
		}
		w := r.wants[i]
		at, ok := publish.Nanos(v.Source)
		if w.number == 0 || v.Array || numberOf(v.Type) != w.number || v.Status != 0 || !ok || mesh.Nanos(at) > latest {
			return k
		}
		server := mesh.Nanos(at)
		if v.Server != v.Source {
			server = stamp(v.Server)
		}
		to.Number(w.id, mesh.Nanos(at), server, now, w.number, v.Bits)
		r.last[i] = max(r.last[i], mesh.Nanos(at))
	}
	return len(values)
}

// numberOf is what a built-in type's values are stored as, where that is done as it
// comes; else 0. What they are is said by scalar.
func numberOf(t byte) mesh.Type {
	const (
		bools   = 1 << publish.TypeBoolean
		ints    = 1<<publish.TypeSByte | 1<<publish.TypeInt16 | 1<<publish.TypeInt32 | 1<<publish.TypeInt64
		uints   = 1<<publish.TypeByte | 1<<publish.TypeUInt16 | 1<<publish.TypeUInt32 | 1<<publish.TypeUInt64
		doubles = 1<<publish.TypeFloat | 1<<publish.TypeDouble
	)
	switch bit := uint32(1) << (t & 31); {
	case bit&doubles != 0:
		return mesh.TypeDouble
	case bit&ints != 0:
		return mesh.TypeInt
	case bit&uints != 0:
		return mesh.TypeUint
	case bit&bools != 0:
		return mesh.TypeBool
	}
	return mesh.TypeNone
}
