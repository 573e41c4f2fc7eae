// What is planned of machines: shifts and stops as the hub cut them, so that the page says
// what rows say. Instants are in ms.
import type { Site } from './api'
import { Clock } from './words'

export interface Shift { from: number; to: number; name: string }

// Stop is time that is planned not to be worked. off: it is no break within a shift, but a
// holiday, a longer stop, or a stretch without a shift. open: nobody has said yet when it ends.
export interface Stop { from: number; to: number; off: boolean; open: boolean }

const at = <T extends { from: number; to: number }>(all: T[], t: number): T | undefined => all.find((x) => x.from <= t && t < x.to)

// offs says whether a stop is more than a break: it takes all of a shift, or reaches out of
// all shifts. Where there are none it does so by its length.
function offs(shifts: Shift[], from: number, to: number): boolean {
  if (shifts.length === 0) return to - from > 12 * 3600_000
  if (shifts.some((s) => from <= s.from && s.to <= to)) return true
  for (let t = from; t < to; ) {
    const s = at(shifts, t)
    if (!s) return true
    t = s.to
  }
  return false
}

// Plan is that of the machines that have one calendar.
export class Plan {
  readonly clock: Clock
  constructor(zone: string, readonly shifts: Shift[], readonly stops: Stop[], readonly machines: string[]) {
    this.clock = new Clock(zone)
  }
  shift = (t: number): Shift | undefined => at(this.shifts, t)
  stop = (t: number): Stop | undefined => at(this.stops, t)
  // rests says whether all of a stretch is planned not to be worked, but for some minutes at its edges.
  rests(from: number, to: number): boolean {
    const slack = 15 * 60_000
    return this.stops.some((s) => s.from <= from + slack && s.to >= to - slack && s.from < to && s.to > from)
  }
}

// Plans are those of a site.
export class Plans {
  readonly site: Plan // of machines that have no calendar of their own
  readonly all: Plan[]
  private readonly by = new Map<string, Plan>()

  constructor(site: Site | null) {
    const end = Date.parse(site?.planned_through ?? '')
    this.all = (site?.plans ?? []).map((p) => {
      const shifts = (p.shifts ?? []).map((s) => ({ from: Date.parse(s.from), to: Date.parse(s.to), name: s.shift_id.slice(11) }))
      const stops = (p.stops ?? []).map((s) => {
        const [from, to] = [Date.parse(s.from), Date.parse(s.to)]
        return { from, to, off: offs(shifts, from, to), open: to >= end }
      })
      return new Plan(p.zone, shifts, stops, p.machines ?? [])
    })
    this.site = this.all[0] ?? new Plan(site?.zone ?? 'UTC', [], [], [])
    for (const p of this.all) for (const id of p.machines) this.by.set(id, p)
  }

  of = (machine: string): Plan => this.by.get(machine) ?? this.site

  // shared is the plan that all of some machines have, else the site's.
  shared(machines: { id: string }[]): Plan {
    const first = machines[0] && this.of(machines[0].id)
    return first && machines.every((m) => this.of(m.id) === first) ? first : this.site
  }
}
