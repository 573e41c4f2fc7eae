package wire

// A sequence of whole numbers is written in blocks. The layout of a block goes
// into the shape bytes, which repeat from signal to signal and are compressed;
// the numbers go into the bits, which hold no more to compress.
//
//	one number      its size
//	two and more    layout, size of the base [, size of the first], bits
//	layout 0..64    offset from the smallest number, so many bits each
//	layout 65..129  the first number, then differences less the smallest one,
//	                layout - 65 bits each
//	layout 130..145  up to 17 numbers repeat: their width (a shape byte), the
//	                layout - 128 of them as offsets from the smallest, then the
//	                place of each of the block's numbers among them
//
// A number of its own is zigzagged and written as its size in bits (a shape
// byte) and the bits below the leading one. All arithmetic is modulo 2^64, so
// that any numbers can follow each other.

// block is how many numbers share one layout: few enough to follow a drift,
// many enough to make two shape bytes cheap.
const block = 128

const (
	deltaLayout = 65
	placeLayout = 128 // and how many numbers there are, at least 2
	maxPlaces   = 17
)

// packer writes the two streams of a batch that hold numbers.
type packer struct {
	shape []byte
	out   bitWriter
}

func (p *packer) reset() {
	p.shape = p.shape[:0]
	p.out.reset()
}

func (p *packer) number(v uint64) {
	z := zigzag(int64(v))
	size := widthOf(z)
	p.shape = append(p.shape, byte(size))
	if size > 1 {
		p.out.put(z&^(1<<(size-1)), size-1)
	}
}

func (p *packer) ints(v []uint64) {
	for len(v) > block {
		p.block(v[:block])
		v = v[block:]
	}
	p.block(v)
}

func (p *packer) block(v []uint64) {
	switch len(v) {
	case 0:
		return
	case 1:
		p.number(v[0])
		return
	}
	low, wide, step, narrow := spread(v)
	// A difference can save no bit where the numbers themselves take one, and
	// costs a number more.
	if wide > 1 && uint(len(v)-1)*narrow+widthOf(zigzag(int64(v[0])))+8 < uint(len(v))*wide {
		p.shape = append(p.shape, byte(deltaLayout+narrow))
		p.number(step)
		p.number(v[0])
		p.out.putSteps(v, step, narrow)
		return
	}
	if wide >= placesFrom && p.places(v, low, wide) {
		return
	}
	p.shape = append(p.shape, byte(wide))
	p.number(low)
	p.out.putAll(v, low, wide)
}

// placesFrom is the width below which repeating numbers gain nothing.
const placesFrom = 6

// places writes a block in which few numbers repeat, as instruments of few
// steps give them; it reports whether that is smaller.
func (p *packer) places(v []uint64, low uint64, wide uint) bool {
	var seen [maxPlaces]uint64
	var at [block]uint64
	k := 0
next:
	for i, x := range v {
		for j := range k {
			if seen[j] == x {
				at[i] = uint64(j)
				continue next
			}
		}
		// Numbers that repeat do so soon.
		if k == maxPlaces || k == 6 && i == 6 {
			return false
		}
		seen[k], at[i] = x, uint64(k)
		k++
	}
	each := widthOf(uint64(k - 1))
	if uint(k)*wide+uint(len(v))*each+8 >= uint(len(v))*wide {
		return false
	}
	p.shape = append(p.shape, byte(placeLayout+k))
	p.number(low)
	p.shape = append(p.shape, byte(wide))
	p.out.putAll(seen[:k], low, wide)
	p.out.putAll(at[:len(v)], 0, each)
	return true
}

// spread gives the smallest number and the width of the largest one above it;
// then the same of the differences of neighbours.
func spread(v []uint64) (low uint64, width uint, step uint64, narrow uint) {
	last := int64(v[0])
	least, most := last, last
	first := int64(v[1]) - last
	shortest, longest := first, first
	for _, x := range v[1:] {
		x := int64(x)
		d := x - last
		least, most = min(least, x), max(most, x)
		shortest, longest = min(shortest, d), max(longest, d)
		last = x
	}
	return uint64(least), widthOf(uint64(most) - uint64(least)), uint64(shortest), widthOf(uint64(longest) - uint64(shortest))
}

// putSteps writes the differences of neighbours less step.
func (w *bitWriter) putSteps(v []uint64, step uint64, width uint) {
	if width == 0 {
		return
	}
	for i := 1; i < len(v); i++ {
		w.put(v[i]-v[i-1]-step, width)
	}
}

// unpacker takes off what packer wrote; after the first error it gives zeros.
type unpacker struct {
	shape reader
	bits  bitReader
}

func (u *unpacker) number() uint64 {
	size := uint(u.shape.byte())
	switch {
	case size == 0:
		return 0
	case size > 64:
		u.shape.fail(ErrFormat)
		return 0
	case !u.bits.has(1, size-1):
		u.shape.fail(ErrShort)
		return 0
	}
	return uint64(unzigzag(u.bits.get(size-1) | 1<<(size-1)))
}

func (u *unpacker) ints(out []uint64) {
	for len(out) > block && u.shape.err == nil {
		u.block(out[:block])
		out = out[block:]
	}
	u.block(out)
}

func (u *unpacker) block(out []uint64) {
	if u.shape.err != nil || len(out) == 0 {
		return
	}
	if len(out) == 1 {
		out[0] = u.number()
		return
	}
	layout := uint(u.shape.byte())
	base, rest := u.number(), out
	if layout > placeLayout+1 {
		u.places(out, base, int(layout-placeLayout))
		return
	}
	steps := layout >= deltaLayout
	if steps {
		layout -= deltaLayout
		out[0], rest = u.number(), out[1:]
	}
	switch {
	case layout > 64:
		u.shape.fail(ErrFormat)
		return
	case !u.bits.has(len(rest), layout):
		u.shape.fail(ErrShort)
		return
	}
	u.bits.getAll(rest, base, layout)
	if steps {
		for i := 1; i < len(out); i++ {
			out[i] += out[i-1]
		}
	}
}

// places reads a block in which k numbers repeat.
func (u *unpacker) places(out []uint64, base uint64, k int) {
	wide, each := uint(u.shape.byte()), widthOf(uint64(k-1))
	switch {
	case k > maxPlaces || wide > 64:
		u.shape.fail(ErrFormat)
		return
	case !u.bits.has(k, wide):
		u.shape.fail(ErrShort)
		return
	}
	var seen [maxPlaces]uint64
	u.bits.getAll(seen[:k], base, wide)
	if !u.bits.has(len(out), each) {
		u.shape.fail(ErrShort)
		return
	}
	u.bits.getAll(out, 0, each)
	for i, at := range out {
		if at >= uint64(k) {
			u.shape.fail(ErrFormat)
			return
		}
		out[i] = seen[at]
	}
}
