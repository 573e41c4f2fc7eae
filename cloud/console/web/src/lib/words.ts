// How things are said: states, causes, durations, times, figures.
import type { Machine, Site, StateRow } from './api'

// Look is how a state is shown: a word, a sign and a colour, always together,
// as colour alone tells nothing to many eyes. Normal is quiet; what needs a
// person stands out. many is how machines in it are counted: "3 waiting". after
// says how many seconds of it need a person, null that no length of it does.
export interface Look { id: string; word: string; many: string; glyph: string; color: string; text: string; after: number | null }

export const looks: Record<string, Look> = {
  producing: { id: 'producing', word: 'Running', many: 'running', glyph: '▶', color: '#7e9c90', text: '#1f2933', after: null },
  waiting: { id: 'waiting', word: 'Waiting', many: 'waiting', glyph: '❚❚', color: '#dfae52', text: '#1f2933', after: 600 },
  stopped: { id: 'stopped', word: 'Stopped', many: 'stopped', glyph: '■', color: '#986000', text: '#ffffff', after: 120 },
  setup: { id: 'setup', word: 'Changeover', many: 'in changeover', glyph: '⇄', color: '#1d4e9e', text: '#ffffff', after: null },
  maintenance: { id: 'maintenance', word: 'Maintenance', many: 'in maintenance', glyph: '✚', color: '#b783cc', text: '#1f2933', after: null },
  down: { id: 'down', word: 'Fault', many: 'with a fault', glyph: '✕', color: '#b3261e', text: '#ffffff', after: 0 },
  idle: { id: 'idle', word: 'No order', many: 'without an order', glyph: '–', color: '#c9ced3', text: '#1f2933', after: null },
  nodata: { id: 'nodata', word: 'No data', many: 'without data', glyph: '?', color: '#4b5563', text: '#ffffff', after: 0 },
  fresh: { id: 'fresh', word: 'Not heard yet', many: 'not heard yet', glyph: '·', color: '#e1e4e7', text: '#1f2933', after: null },
  break: { id: 'break', word: 'Break', many: 'on break', glyph: '☕', color: '#c9ced3', text: '#1f2933', after: null },
  off: { id: 'off', word: 'Planned stop', many: 'in a planned stop', glyph: '○', color: '#e1e4e7', text: '#1f2933', after: null },
}

const byCause: Record<string, string> = {
  unknown: 'nodata', maintenance: 'maintenance', changeover: 'setup', none: 'producing', external: 'waiting',
  internal: 'stopped', failure: 'down', no_order: 'idle', operator: 'stopped',
}

export function look(row: StateRow | undefined): Look {
  return looks[row ? (byCause[row.cause] ?? 'stopped') : 'nodata'] as Look
}

// A machine that stands in a planned break waits for nobody, nor does one that is not heard in
// it; one that stands while nothing is planned at all does so whatever it waits for.
export const rests = (row: StateRow | undefined, off: boolean): boolean =>
  row !== undefined && (['operator', 'no_order', 'unknown'].includes(row.cause) || (off && ['external', 'internal'].includes(row.cause)))

const causeWords: Record<string, string> = {
  none: '', maintenance: 'planned work or repair', changeover: 'setting up the next order',
  external: 'held up by a neighbour', internal: 'short stop at the machine itself',
  failure: 'the machine tripped', no_order: 'nothing to make', operator: 'waiting for an operator',
  unknown: 'nothing is heard of it',
}

// why is the cause in words, with the reason the machine gave where it did.
export function why(row: StateRow, site: Site | null): string {
  const cause = causeWords[row.cause] ?? row.cause
  if (row.reason === null || row.cause === 'unknown') return cause
  const reason = site?.reasons?.[String(row.reason)] ?? `stop code ${row.reason}`
  if (row.cause === 'external' && /starv/i.test(reason)) return 'starved by the machine before'
  if (row.cause === 'external' && /block/i.test(reason)) return 'blocked by the machine after'
  return row.cause === 'failure' || row.cause === 'internal' ? reason : cause ? `${cause} (${reason})` : reason
}

const gapWords: Record<string, string> = {
  unproven: 'the source was not heard without a break',
  disk_policy: 'the gateway made room on its full disk',
  unreadable: 'readings could not be understood',
  damaged: 'stored readings were damaged',
  not_kept: 'the readings were no longer kept',
  overflow: "the machine's own queue ran over",
  died: 'a program on the gateway stopped without notice',
  disconnected: 'the machine could not be reached',
}

export const gapCause = (cause: string): string => gapWords[cause] ?? cause.replaceAll('_', ' ')

export const lineName = (id: string): string => {
  const m = /^([a-z]+)[-_ ]?(\d+)$/i.exec(id)
  return m ? `${cap(m[1] as string)} ${m[2]}` : cap(id)
}

export const cap = (s: string): string => s.charAt(0).toUpperCase() + s.slice(1)

export function percent(r: number | null | undefined, digits = 0): string {
  if (r === null || r === undefined) return '–'
  // 99.6 % of quality must not look like perfection.
  const most = digits === 0 && r < 1 && r > 0.995 ? 1 : digits
  const shown = most === 1 && digits === 0 ? Math.floor(1000 * r) / 10 : 100 * r
  return `${shown.toLocaleString('en', { minimumFractionDigits: most, maximumFractionDigits: most })} %`
}

export const count = (n: number | null | undefined): string =>
  n === null || n === undefined ? '–' : Math.round(n).toLocaleString('en')

// span is a duration as people say it.
export function span(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds))
  if (s < 60) return `${s} s`
  if (s < 600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, '0')} s`
  if (s < 3600) return `${Math.floor(s / 60)} min`
  if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, '0')} min`
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`
}

// Clock writes instants in the site's zone, whatever the browser's is.
export class Clock {
  private readonly day: Intl.DateTimeFormat
  private readonly short: Intl.DateTimeFormat
  private readonly long: Intl.DateTimeFormat
  constructor(readonly zone: string) {
    const base = { timeZone: zone, hourCycle: 'h23' } as const
    this.day = new Intl.DateTimeFormat('en-GB', { ...base, weekday: 'short', day: 'numeric', month: 'short' })
    this.short = new Intl.DateTimeFormat('en-GB', { ...base, hour: '2-digit', minute: '2-digit' })
    this.long = new Intl.DateTimeFormat('en-GB', { ...base, hour: '2-digit', minute: '2-digit', second: '2-digit' })
  }
  date = (t: number): string => this.day.format(t)
  time = (t: number): string => this.short.format(t)
  seconds = (t: number): string => this.long.format(t)
  both = (t: number): string => `${this.date(t)} ${this.time(t)}`
  // since is the time of day, with its date where that is not plain from now.
  since = (t: number, now: number): string => (now - t < 20 * 3600_000 ? this.time(t) : this.both(t))
  // until is the time of day of what comes, with its date where that is not plain from now.
  until = (t: number, now: number): string => (t - now < 12 * 3600_000 ? this.time(t) : this.both(t))
  // minutes since local midnight
  minutes(t: number): number {
    const [h, m] = this.time(t).split(':')
    return Number(h) * 60 + Number(m)
  }
}

// zoneName is "Kolkata" of "Asia/Kolkata".
export const zoneName = (zone: string): string => (zone.split('/').at(-1) ?? zone).replaceAll('_', ' ')

// nameOf is what people call a machine; one without a name goes by its id.
export const nameOf = (m: Machine): string => m.name || m.id

// shiftName is "early shift" of "2026-03-01-early".
export const shiftName = (id: string | null): string => (id ? `${id.slice(11)} shift` : 'shift')

// dayName is "Sun 1 Mar" of "2026-03-01".
export const dayName = (day: string): string =>
  new Intl.DateTimeFormat('en-GB', { timeZone: 'UTC', weekday: 'short', day: 'numeric', month: 'short' }).format(Date.parse(`${day}T12:00:00Z`))

// windowName is what people call a window: "early shift", "Sun 1 Mar", "hour 14:00".
export function windowName(w: { window: string; from: string; shift_id: string | null; production_day: string }, clock: Clock): string {
  if (w.window === 'shift') return shiftName(w.shift_id)
  return w.window === 'day' ? dayName(w.production_day) : `hour ${clock.time(Date.parse(w.from))}`
}
