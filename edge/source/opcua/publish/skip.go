package publish

// leastOf is the least number of bytes that a value of a built-in type takes, and
// 0 where there is no such type.
func leastOf(t byte) int {
	switch t {
	case TypeString, TypeByteString, TypeXMLElement:
		return leastText
	case TypeGUID:
		return 16
	case TypeNodeID, TypeExpandedNodeID:
		return 2
	case TypeQualifiedName:
		return 2 + leastText
	case TypeExtension:
		return leastNotification
	case TypeLocalizedText, TypeDataValue, TypeVariant, TypeDiagnostic:
		return 1 // a mask that says: nothing
	}
	_, width := number(t, 0)
	return width
}

// skip reads over a value of a built-in type. Depth is the value's own, as of all
// that skips here.
func (r *reader) skip(t byte, depth int) {
	switch t {
	case TypeString, TypeByteString, TypeXMLElement:
		r.text()
	case TypeGUID:
		r.take(16)
	case TypeNodeID:
		r.nodeID()
	case TypeExpandedNodeID:
		r.expandedNodeID()
	case TypeQualifiedName:
		r.take(2)
		r.text()
	case TypeLocalizedText:
		r.localizedText()
	case TypeExtension:
		r.skipExtension()
	case TypeDataValue:
		r.skipDataValue(depth)
	case TypeVariant:
		r.skipVariant(depth)
	case TypeDiagnostic:
		r.skipDiagnostic(depth)
	default:
		r.number(t)
	}
}

// skipDataValue reads over a DataValue.
func (r *reader) skipDataValue(depth int) {
	if depth > maxDepth {
		r.fail(ErrDeep)
		return
	}
	mask := r.u8()
	if mask&hasValue != 0 {
		r.skipVariant(depth + 1)
	}
	if mask&hasStatus != 0 {
		r.take(4)
	}
	if mask&hasSource != 0 {
		r.take(8)
	}
	if mask&hasSourcePico != 0 {
		r.take(2)
	}
	if mask&hasServer != 0 {
		r.take(8)
	}
	if mask&hasServerPico != 0 {
		r.take(2)
	}
}

// skipVariant reads over a Variant.
func (r *reader) skipVariant(depth int) {
	if depth > maxDepth {
		r.fail(ErrDeep)
		return
	}
	mask := r.u8()
	switch {
	case mask&typeBits == TypeNull:
	case mask&hasElements != 0:
		r.skipArray(mask, depth+1)
	default:
		r.skip(mask&typeBits, depth+1)
	}
}

// skipArray reads over the elements of a Variant with that mask, whose depth is
// given, and its dimensions.
func (r *reader) skipArray(mask byte, depth int) {
	t := mask & typeBits
	least := leastOf(t)
	if least == 0 {
		r.fail(ErrKind)
		return
	}
	n := int(int32(r.u32()))
	if n < -1 || n > r.left()/least {
		r.fail(ErrCount)
		return
	}
	if _, width := number(t, 0); width > 0 {
		r.take(max(n, 0) * width)
	} else {
		r.skipEach(t, n, depth)
	}
	if mask&hasDimensions != 0 {
		r.skipDimensions(n)
	}
}

// skipEach reads over n values, and none where n is -1.
func (r *reader) skipEach(t byte, n, depth int) {
	for range n {
		if r.err != nil {
			return
		}
		r.skip(t, depth)
	}
}

// skipDimensions reads over the dimensions of an array of n elements. They are
// greater than zero and multiply to n (OPC 10000-6, 5.2.2.16), unless there are none.
func (r *reader) skipDimensions(n int) {
	dimensions := r.count(leastNumber)
	if dimensions == 0 {
		return
	}
	product := int64(1) // stays below 2^31 * 2^31, as n and each dimension are int32
	for range dimensions {
		d := int64(int32(r.u32()))
		product *= d
		if d < 1 || product > int64(n) {
			r.fail(ErrCount)
			return
		}
	}
	if product != int64(n) {
		r.fail(ErrCount)
	}
}
