// Reads every golden file and compares with what Go reads in it.
import { readdirSync, readFileSync } from 'node:fs'
import { deepStrictEqual } from 'node:assert'
import { records } from './read.mjs'

const dir = process.argv[2]
// A double is its bits: texts of it differ between languages.
const plain = ({ bits, value, ...s }) => (bits ? { ...s, bits } : { ...s, value })
let files = 0, samples = 0
for (const name of readdirSync(dir).filter((n) => n.endsWith('.bin'))) {
  const lines = readFileSync(`${dir}/${name.replace('.bin', '.jsonl')}`, 'utf8').trim().split('\n').map((l) => JSON.parse(l))
  const heads = lines.filter((l) => l.frame === 'record'), want = lines.filter((l) => l.signal !== undefined)
  const got = [...records(new Uint8Array(readFileSync(`${dir}/${name}`)))]
  deepStrictEqual(got.map((r) => [r.kind, r.log, r.epoch, r.seq, r.about, r.count, r.needs]),
    heads.map((h) => [h.kind, h.log, h.epoch, h.seq, h.about ?? '', h.count ?? 0, h.needs ?? []]), name)
  deepStrictEqual(got.flatMap((r) => r.samples ?? []).map(plain), want.map(plain), name)
  files++
  samples += want.length
}
console.log(`${files} files, ${samples} samples: read alike`)
