// What is known at this moment: of the plant how far, of a machine what it does.
import type { GapRow, Machine, Progress, Site, Source, StateRow } from './api'
import type { Plan, Plans, Stop } from './plan'
import { look, looks, rests, why } from './words'
import type { Look } from './words'

// Reach is how far the page's figures go. Sources that fell silent hold it
// back as little as a machine that is switched off holds back the others.
export interface Reach {
  through: number | null
  from: number | null // the first instant anything is known of
  catching: boolean
  mute: boolean // no source at all is heard
}

// What the hub allows the chain before it calls it behind: of the plant's time,
// and of the machine's at the plant's speed.
const lagOfPlant = 60_000
const lagOfMachine = 20_000

const at = (instant: string | null): number | null => (instant === null ? null : Date.parse(instant))

function reachOf(p: Progress, now: number, speed: number): Reach {
  const from = at(p.known_from)
  const all = p.sources ?? []
  if (all.length === 0) return { through: at(p.progress), from, catching: p.catching_up, mute: false }
  const loud = all.filter((s) => !s.silent)
  const heard = (loud.length > 0 ? loud : all).flatMap((s) => at(s.heard_through) ?? [])
  if (loud.length === 0) return { through: heard.length > 0 ? Math.max(...heard) : null, from, catching: false, mute: true }
  const late = (s: Source): boolean => (at(s.heard_through) ?? 0) < now - lagOfPlant - speed * lagOfMachine
  return { through: heard.length > 0 ? Math.min(...heard) : null, from, catching: p.catching_up && loud.some(late), mute: false }
}

// reach is that of the product that is furthest behind; one that has not begun
// while others have is behind them, and its sources are not silent for that.
// Signals are made when asked for, so they are as far as the others.
export function reach(products: Progress[], now: number, speed: number): Reach {
  const none: Reach = { through: null, from: null, catching: false, mute: false }
  const all = products.filter((p) => p.id !== 'signals').map((p) => reachOf(p, now, speed))
  const loud = all.filter((r) => !r.mute)
  const least = (loud.length > 0 ? loud : all)
    .reduce<Reach | null>((a, b) => (a === null || (a.through ?? 0) > (b.through ?? 0) ? b : a), null) ?? none
  return loud.length < all.length && !least.mute ? { ...least, catching: true } : least
}

// Standing is what a machine does, as far as anybody knows. since is null where
// nothing was ever heard of it; lost is since when nothing is known, null while it is heard.
export interface Standing { machine: Machine; is: Look; row: StateRow | undefined; since: number | null; lost: number | null; why: string }

export interface Known {
  site: Site | null
  plans: Plans
  at: number // the instant that is spoken of
  now: number // the plant's; the same while figures catch up
  current: Map<string, StateRow>
  recent: Map<string, Map<string, StateRow>> // by machine and start
  gaps: Map<string, GapRow>
  sources: Source[]
}

// lostAt is since when nothing is known of a machine; null: its state is known.
// What was known last says nothing of now.
function lostAt(k: Known, m: Machine, row: StateRow): number | null {
  const ends: number[] = []
  if (row.cause === 'unknown') ends.push(Date.parse(row.from))
  if (row.to !== null) ends.push(Date.parse(row.to))
  const source = k.sources.find((s) => s.source === m.source)
  if (source?.silent) ends.push(at(source.heard_through) ?? Date.parse(row.from))
  if (!source)
    for (const g of k.gaps.values()) if (g.source === m.source && g.to === null) ends.push(Date.parse(g.from))
  return ends.length > 0 ? Math.min(...ends) : null
}

// kind is what a person would call one stand: a breakdown goes from fault to
// "waiting for an operator" and back, and is still the same stop.
const kind = (r: StateRow): string => (look(r).id === 'down' ? 'stopped' : look(r).id)

// began is when a machine came into the state it is in, whatever its causes
// were since.
function began(k: Known, row: StateRow): number {
  let from = row.from
  const before = [...(k.recent.get(row.equipment)?.values() ?? [])].filter((r) => r.from < from).sort((a, b) => (a.from < b.from ? 1 : -1))
  for (const r of before) {
    if (r.to !== from || kind(r) !== kind(row)) break
    from = r.from
  }
  return Date.parse(from)
}

// early is how long before a planned stop a gateway may be switched off for it.
const early = 15 * 60_000

// asleep is the planned stop in which nothing is heard of a machine since shortly before it
// began at most, if there is one: then it was switched off. One that fell silent while it was
// to work is missing, and so is one that had a fault when it was heard last.
function asleep(k: Known, m: Machine, row: StateRow, lost: number): Stop | undefined {
  const stop = k.plans.of(m.id).stop(k.now)
  const last = row.cause !== 'unknown' ? row : [...(k.recent.get(m.id)?.values() ?? [])].filter((r) => r.to === row.from).at(-1)
  return stop && lost >= stop.from - early && last?.cause !== 'failure' ? stop : undefined
}

export function standing(k: Known, machine: Machine): Standing {
  const row = k.current.get(machine.id)
  if (!row) {
    const source = k.sources.find((s) => s.source === machine.source)
    // Registered, and its source never said anything: nobody misses it yet.
    if (k.sources.length > 0 && !source?.heard_through) return { machine, is: looks['fresh']!, row, since: null, lost: null, why: 'its source has said nothing so far' }
    const silent = source?.silent ? source : undefined
    return { machine, is: looks['nodata']!, row, since: at(silent?.heard_through ?? null), lost: at(silent?.heard_through ?? null), why: 'nothing heard of this machine' }
  }
  const lost = lostAt(k, machine, row)
  const plan = k.plans.of(machine.id)
  const off = lost === null ? undefined : asleep(k, machine, row, lost)
  if (off && lost !== null) {
    const why = `${planned(off, plan, k.now)}; not heard since ${plan.clock.since(lost, k.now)}`
    return { machine, is: looks[off.off ? 'off' : 'break']!, row, since: Math.max(off.from, lost), lost, why }
  }
  if (lost !== null) return { machine, is: looks['nodata']!, row, since: lost, lost, why: 'nothing is heard of it' }
  const stop = plan.stop(k.at)
  if (stop && rests(row, stop.off)) {
    return { machine, is: looks[stop.off ? 'off' : 'break']!, row, since: Math.max(Date.parse(row.from), stop.from), lost, why: planned(stop, plan, k.at) }
  }
  return { machine, is: look(row), row, since: began(k, row), lost, why: why(row, k.site) }
}

// planned is a planned stop in words.
const planned = (s: Stop, p: Plan, now: number): string =>
  !s.off ? 'planned break' : s.open ? 'nothing is planned' : `nothing is planned until ${p.clock.until(s.to, now)}`

// raised reports whether a machine needs a person now.
export const raised = (s: Standing, now: number): boolean =>
  s.is.after !== null && (s.is.after === 0 || s.since === null || now - s.since > 1000 * s.is.after)

// counts is how many machines are in which state, in words: "7 running, 1 stopped".
export function counts(all: Standing[]): string {
  return Object.values(looks).flatMap((l) => {
    const n = all.filter((s) => s.is.id === l.id).length
    return n > 0 ? `${n} ${l.many}` : []
  }).join(', ')
}
