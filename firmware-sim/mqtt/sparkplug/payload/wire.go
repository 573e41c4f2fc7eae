package payload

import (
	"encoding/binary"
	"slices"
)

// Wire types of protocol buffers; the first is a varint.
const (
	varint  = 0
	fixed64 = 1
	length  = 2
	fixed32 = 5
)

func appendNumber(b []byte, field int, n uint64, said bool) []byte {
	if !said {
		return b
	}
	b = binary.AppendUvarint(b, uint64(field)<<3|varint)
	return binary.AppendUvarint(b, n)
}

func appendText[T string | []byte](b []byte, field int, text T, said bool) []byte {
	if !said {
		return b
	}
	b = binary.AppendUvarint(b, uint64(field)<<3|length)
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

// nest appends what body appends as one field, with its length in front.
func nest(b []byte, field int, body func([]byte) []byte) []byte {
	b = binary.AppendUvarint(b, uint64(field)<<3|length)
	at := len(b)
	b = body(append(b, 0)) // most lengths need one byte
	n := uint64(len(b) - at - 1)
	var room [binary.MaxVarintLen64]byte
	return slices.Replace(b, at, at+1, binary.AppendUvarint(room[:0], n)...)
}

// Rebirth reports whether a command to a node asks for its births: the metric
// "Node Control/Rebirth", by name, is true (Sparkplug 3.0, 6.4.24). What can't
// be read asks for nothing.
func Rebirth(command []byte) bool {
	asked := false
	whole := each(command, func(field int, _ uint64, metric []byte) {
		if field != 2 {
			return
		}
		named, on := false, false
		whole := each(metric, func(field int, n uint64, text []byte) {
			switch field {
			case 1:
				named = string(text) == RebirthName
			case 14:
				on = n != 0
			}
		})
		asked = asked || whole && named && on
	})
	return whole && asked
}

// RebirthName is the metric that a rebirth is asked for by.
const RebirthName = "Node Control/Rebirth"

// each visits the fields of a message and reports whether it is one. n is that of
// a varint field, text that of one with a length.
func each(b []byte, visit func(field int, n uint64, text []byte)) (whole bool) {
	for len(b) > 0 {
		tag, used := binary.Uvarint(b)
		if used <= 0 {
			return false
		}
		b = b[used:]
		var n uint64
		var text []byte
		switch tag & 7 {
		case varint:
			if n, used = binary.Uvarint(b); used <= 0 {
				return false
			}
		case length:
			if n, used = binary.Uvarint(b); used <= 0 || n > uint64(len(b)-used) {
				return false
			}
			text = b[used : used+int(n)]
			used += int(n)
		case fixed32:
			used = 4
		case fixed64:
			used = 8
		default:
			return false
		}
		if used > len(b) {
			return false
		}
		b = b[used:]
		visit(int(tag>>3), n, text)
	}
	return true
}
