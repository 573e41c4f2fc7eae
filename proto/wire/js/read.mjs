// Reads the frames of records: header, and the samples of a batch. It follows
// ../DESIGN.md and nothing else; 64-bit numbers are BigInt.
import { decompress } from 'fzstd'

const mask = (n) => (1n << BigInt(n)) - 1n
const wrap = (x) => BigInt.asUintN(64, x)
const signed = (x) => BigInt.asIntN(64, x)
const unzigzag = (u) => wrap((u >> 1n) ^ -(u & 1n))
const size = (x) => (x === 0n ? 0 : x.toString(2).length)
const units = [1n, 100n, 1000n, 1000000n, 1000000000n]
const types = ['none', 'bool', 'int', 'uint', 'double', 'string', 'bytes', 'array', 'struct', 'event']
const view = new DataView(new ArrayBuffer(8))
const bitsOf = (f) => (view.setFloat64(0, f), view.getBigUint64(0))
const doubleOf = (b) => (view.setBigUint64(0, b), view.getFloat64(0))
const hex = (b) => Buffer.from(b).toString('hex')

const crcTable = Uint32Array.from({ length: 256 }, (_, i) => {
  for (let k = 0; k < 8; k++) i = i & 1 ? (i >>> 1) ^ 0x82f63b78 : i >>> 1
  return i >>> 0
})
function checked(b) {
  let crc = 0xffffffff
  for (const x of b.subarray(0, -4)) crc = crcTable[(crc ^ x) & 255] ^ (crc >>> 8)
  if ((~crc >>> 0) !== new DataView(b.buffer, b.byteOffset).getUint32(b.length - 4, true)) throw new Error('checksum')
  return b.subarray(0, -4)
}

class Bytes {
  constructor(b) { this.b = b; this.at = 0 }
  byte() { return this.take(1)[0] }
  take(n) {
    if (this.at + n > this.b.length) throw new Error('short')
    return this.b.subarray(this.at, (this.at += n))
  }
  rest() { return this.take(this.b.length - this.at) }
  uvarint() {
    for (let v = 0n, shift = 0n; ; shift += 7n) {
      const x = this.byte()
      v |= BigInt(x & 127) << shift
      if (x < 128) return wrap(v)
    }
  }
  varint() { return unzigzag(this.uvarint()) }
  count() { return Number(this.uvarint()) }
  part() { return this.take(this.count()) }
  fixed(n) { return this.take(n).reduceRight((v, x) => (v << 8n) | BigInt(x), 0n) }
}

class Numbers {
  constructor(shape, bits) { this.shape = shape; this.b = bits; this.pos = 0 }
  bits(n) {
    let v = 0n
    for (let got = 0; got < n; ) {
      const at = this.pos >> 3, from = this.pos & 7, k = Math.min(8 - from, n - got)
      if (at >= this.b.length) throw new Error('short')
      v |= BigInt((this.b[at] >> from) & ((1 << k) - 1)) << BigInt(got)
      got += k
      this.pos += k
    }
    return v
  }
  number() {
    const n = this.shape.byte()
    return n === 0 ? 0n : unzigzag(this.bits(n - 1) | (1n << BigInt(n - 1)))
  }
  ints(n) {
    const out = []
    while (out.length < n) out.push(...this.block(Math.min(128, n - out.length)))
    return out
  }
  block(n) {
    if (n === 1) return [this.number()]
    const layout = this.shape.byte(), base = this.number()
    const offsets = (k, width) => Array.from({ length: k }, () => wrap(base + this.bits(width)))
    if (layout <= 64) return offsets(n, layout)
    if (layout <= 129) {
      const out = [this.number()]
      for (const d of offsets(n - 1, layout - 65)) out.push(wrap(out.at(-1) + d))
      return out
    }
    const width = this.shape.byte(), few = offsets(layout - 128, width), each = size(BigInt(few.length - 1))
    return Array.from({ length: n }, () => few[Number(this.bits(each))])
  }
}

function readClock(x, count) {
  const mode = x.byte()
  if (mode === 2) return { mode, table: Array.from({ length: x.count() }, () => x.uvarint()) }
  return mode === 3 ? { mode, unit: units[x.byte()] } : { mode }
}

function reading(c, code, time, base) {
  if (c.mode === 0) return 0n
  if (c.mode === 2) return wrap(base + c.table[Number(code)])
  if (c.mode === 1 || code === 0n) return time
  return code === 1n ? 0n : wrap(time + unzigzag(code - 1n) * c.unit)
}

function doubles(whole, how) {
  if (how >= 64) return whole.map((n) => wrap(n << BigInt(how - 64)))
  const p = 10 ** (how & 15)
  return whole.map((n) => bitsOf(how >= 16 ? Math.fround(Number(signed(n)) / p) : Number(signed(n)) / p))
}

function* samples(plain, bits, base) {
  const body = new Bytes(plain)
  const extra = new Bytes(body.part()), kinds = new Bytes(body.part()), hows = new Bytes(body.part())
  const num = new Numbers(new Bytes(body.rest()), bits)
  const unit = units[extra.byte()], n = extra.count()
  const clocks = [0, 1, 2].map(() => readClock(extra))
  const statuses = Array.from({ length: extra.count() }, () => extra.uvarint())
  const texts = Array.from({ length: extra.count() }, () => extra.part())
  const ids = num.ints(n), counts = num.ints(n).map(Number), firsts = num.ints(n)
  const values = (k, type) => {
    if (type === 0) return Array(k).fill({ type: 'none', value: '' })
    const v = num.ints(k), t = types[type]
    if (t === 'bool') return v.map((x) => ({ type: t, value: String(x !== 0n) }))
    if (t === 'int') return v.map((x) => ({ type: t, value: String(signed(x)) }))
    if (t === 'uint') return v.map((x) => ({ type: t, value: String(x) }))
    if (t === 'double') return doubles(v, hows.byte()).map((b) => ({ type: t, value: doubleOf(b), bits: b.toString(16).padStart(16, '0') }))
    return v.map((x) => ({ type: t, value: t === 'string' ? new TextDecoder().decode(texts[Number(x)]) : hex(texts[Number(x)]) }))
  }
  let step = 0n
  for (let c = 0; c < n; c++) {
    const k = counts[c], kind = kinds.byte(), more = kind & 64 ? kinds.byte() : 0
    const zeros = () => Array(k).fill(0n)
    const times = [firsts[c]]
    if (k > 1) {
      if (kind & 32) step = num.number()
      num.ints(k - 1).forEach((x, i) => times.push(wrap(firsts[c] + BigInt(i + 1) * step + x)))
    }
    const status = kind & 16 ? num.ints(k) : zeros(), flags = more & 1 ? num.ints(k) : zeros(), seq = more & 2 ? num.ints(k) : zeros()
    const codes = clocks.map((_, i) => (more & (4 << i) ? num.ints(k) : zeros()))
    let all = []
    if ((kind & 15) !== 15) all = values(k, kind & 15)
    else {
      const t = num.ints(k).map(Number)
      for (let i = 0, j; i < k; i = j) {
        for (j = i + 1; j < k && t[j] === t[i]; j++);
        all.push(...values(j - i, t[i]))
      }
    }
    for (let i = 0; i < k; i++) {
      const time = wrap(base + times[i] * unit)
      const [source, server, agent] = clocks.map((x, m) => String(signed(reading(x, codes[m][i], time, base))))
      yield { signal: Number(ids[c]), time: String(signed(time)), source, server, agent, seq: String(seq[i]), status: Number(statuses[Number(status[i])]), flags: Number(flags[i]), ...all[i] }
    }
  }
}

// records yields each record's header, with its samples where it is a batch.
export function* records(file) {
  for (const all = new Bytes(file); all.at < file.length; ) {
    const [p, m, version, kind] = all.b.subarray(all.at)
    if (p !== 0x50 || m !== 0x4d || version !== 2) throw new Error('not a frame of version 2')
    const f = new Bytes(checked(all.take(new DataView(file.buffer, file.byteOffset).getUint32(all.at + 4, true))))
    f.take(8)
    if (String.fromCharCode(kind) !== 'R') continue
    const epoch = hex(f.take(16)), seq = String(f.fixed(8)), log = new TextDecoder().decode(f.take(Number(f.fixed(2))))
    const s = new Bytes(checked(f.rest())), what = s.byte(), h = new Bytes(s.take(Number(s.fixed(4))))
    const packing = h.byte(), raw = h.count(), packed = h.count(), about = new TextDecoder().decode(h.part())
    let last = 0n
    const [from, to, complete, first, end] = [0, 1, 2, 3, 4].map(() => (last = signed(last + h.varint())))
    const count = h.count(), needs = Array.from({ length: h.count() }, () => hex(h.take(32)))
    const head = { log, epoch, seq, kind: ['', 'opening', 'batch', 'void', 'verdict', 'fact'][what], about, proven: [from, to].map(String), complete: String(complete), times: [first, end].map(String), count, needs }
    const body = s.take(packed)
    if (what === 2 && count > 0) head.samples = [...samples(packing === 1 ? decompress(body, new Uint8Array(raw)) : body, s.rest(), wrap(first))]
    yield head
  }
}
