// The page's picture of the plant: a snapshot over HTTP, kept up to date by the
// live feed. After every break the snapshot is taken anew.
import { damage, latest, refused, rows, site as getSite } from './api'
import type { Damage, GapRow, Machine, OEERow, Progress, RateRow, Site, StateRow, Told } from './api'
import { Plan, Plans } from './plan'
import { reach, standing, type Standing } from './standing'
import { Clock } from './words'

export type Link = 'connecting' | 'live' | 'lost'

// How long nothing may be heard: the hub speaks every 10 s at least.
const silence = 25_000
const retry = 3_000
// What is planned is asked for anew when no more than this of it is ahead, and not more often than so.
const ahead = 26 * 3600_000
const pauseAsking = 8_000
// Rows older than this are of no use to the page.
const keep = 60 * 3600_000
// The hub reads a file of its record of changes each minute.
const auditEvery = 60_000
// So far back reach the intervals of all machines: longer stops look as long.
const near = 4 * 3600_000

// What is shown of one machine that is open.
interface Story { states: StateRow[]; hours: OEERow[]; rates: RateRow[] }

const key = (r: { equipment: string; window: string; from: string }): string => `${r.equipment}|${r.window}|${r.from}`

export class Plant {
  site = $state.raw<Site | null>(null)
  link = $state<Link>('connecting')
  trouble = $state('')
  lostAt = $state(0)
  products = $state.raw<Record<string, Progress>>({})
  now = $state(0) // of the plant, ms
  speed = $state(1)
  loaded = $state(false)
  // Rows change in place; who reads them reads turn first.
  turn = $state(0)

  sources = $derived(this.products['equipment-state']?.sources ?? [])

  current = new Map<string, StateRow>()
  recent = new Map<string, Map<string, StateRow>>() // of all, by machine and start
  history = new Map<string, StateRow>() // of the machine that is open, by start
  oee = new Map<string, OEERow>()
  rate = new Map<string, RateRow>()
  gaps = new Map<string, GapRow>()
  open = $state<string | null>(null)
  openLoaded = $state(false)
  openTrouble = $state('') // why the story of the open machine is not there
  note = $state('') // a word on what was asked for and is not here

  damage = $state.raw<Damage | null>(null) // to the record of changes

  private toldAt = $state(0) // what the hub's clock said last
  clock = $derived(new Clock(this.site?.zone ?? 'UTC'))
  plans = $derived(new Plans(this.site))
  reach = $derived(reach(Object.values(this.products), this.toldAt, this.speed))
  live = $derived(this.link === 'live' && !this.reach.catching)
  // at is the instant the figures speak of.
  at = $derived(this.reach.catching || this.reach.mute ? (this.reach.through ?? this.now) : this.now)

  private told = { plant: 0, at: 0, speed: 1 }
  private source: EventSource | null = null
  private heard = 0
  private held: string[] | null = null // frames that came while the snapshot was on its way
  private later: Told | null = null // what came meanwhile on where the products stand
  private timers: ReturnType<typeof setInterval>[] = []
  private dirty = false
  private asked = 0 // when the site was asked for last

  run(): () => void {
    this.connect()
    this.audit()
    this.timers = [
      setInterval(() => this.tick(), 250),
      setInterval(() => this.watch(), 1000),
      setInterval(() => this.audit(), auditEvery),
    ]
    return () => {
      this.timers.forEach(clearInterval)
      this.source?.close()
    }
  }

  private audit(): void {
    void damage().then((d) => (this.damage = d))
  }

  private connect(): void {
    this.source?.close()
    this.heard = Date.now()
    this.held = []
    this.later = null
    const source = new EventSource('/api/v1/live')
    this.source = source
    source.onopen = () => {
      this.heard = Date.now()
      void this.snapshot(source)
    }
    source.addEventListener('progress', (e) => this.progress(JSON.parse((e as MessageEvent<string>).data) as Told))
    source.addEventListener('rows', (e) => this.frame((e as MessageEvent<string>).data))
    source.addEventListener('resync', () => void this.snapshot(source))
    source.onerror = () => {
      if (this.source !== source) return
      source.close()
      this.lose('The hub does not answer.')
      void refused().then((why) => {
        if (why && this.link === 'lost') this.trouble = why
      })
    }
  }

  private lose(why: string): void {
    if (this.link !== 'lost') this.lostAt = Date.now()
    this.link = 'lost'
    this.trouble = why
    this.source?.close()
    this.source = null
    this.heard = Date.now()
  }

  // watch notices a feed that has gone silent, and comes back after a break.
  private watch(): void {
    const quiet = Date.now() - this.heard
    if (this.source === null && quiet > retry) this.connect()
    else if (this.source !== null && quiet > silence) this.lose('Nothing was heard of the hub for a while.')
  }

  private async snapshot(source: EventSource): Promise<void> {
    this.held = []
    try {
      const open = this.open
      const [site, states, before, hours, shifts, days, rates, gaps, story] = await Promise.all([
        getSite(),
        latest<StateRow>('equipment-state'),
        rows<StateRow>('equipment-state', { from: '-4h' }),
        latest<OEERow>('oee', { window: 'hour' }),
        rows<OEERow>('oee', { window: 'shift', from: '-50h' }),
        rows<OEERow>('oee', { window: 'day', from: '-50h' }),
        rows<RateRow>('production-rate', { from: '-2h' }),
        rows<GapRow>('coverage', { from: '-50h' }),
        open ? this.story(open).catch((e: unknown) => cause(e)) : null,
      ])
      if (this.source !== source) return
      // The hub may be another one than before: nothing of the old may stay.
      for (const m of [this.current, this.recent, this.gaps, this.oee, this.rate, this.history]) m.clear()
      this.site = site
      this.asked = Date.now()
      ;[...before, ...states].forEach((r) => this.state(r))
      ;[...hours, ...shifts, ...days].forEach((r) => this.oee.set(key(r), r))
      rates.forEach((r) => this.rate.set(key(r), r))
      gaps.forEach((r) => this.gap(r))
      if (this.open !== open) void this.show(this.open)
      else if (open && this.machine(open)) this.tell(story ?? '')
      else if (open) this.miss(open)
      const held = this.held ?? []
      this.held = null
      held.forEach((f) => this.frame(f))
      if (this.later) this.progress(this.later)
      this.later = null
      this.loaded = true
      this.link = 'live'
      this.trouble = ''
      this.turn++
    } catch (e) {
      if (this.source === source) this.lose(cause(e))
    }
  }

  machine(id: string): Machine | undefined {
    return this.site?.lines?.flatMap((l) => l.machines ?? []).find((m) => m.id === id)
  }

  // standing is what a machine does, as far as is known.
  standing(m: Machine): Standing {
    void this.turn
    return standing({ site: this.site, plans: this.plans, at: this.at, now: this.reach.catching ? this.at : this.now, current: this.current, recent: this.recent, gaps: this.gaps, sources: this.sources }, m)
  }

  plan = (id: string): Plan => this.plans.of(id)

  // replan asks anew what is planned, before the page runs out of it.
  private replan(): void {
    const through = Date.parse(this.site?.planned_through ?? '')
    if (this.link !== 'live' || !(this.now > through - ahead) || Date.now() - this.asked < pauseAsking) return
    this.asked = Date.now()
    void getSite().then((site) => (this.site = site), () => undefined) // it is tried again
  }

  // known is the end of what is known of a machine.
  known(m: Machine): number {
    const s = this.sources.find((s) => s.source === m.source)
    return (s?.heard_through ? Date.parse(s.heard_through) : this.reach.through) ?? this.now
  }

  // show opens a machine, or closes the one that is open.
  async show(id: string | null): Promise<void> {
    this.open = id
    this.openLoaded = false
    this.openTrouble = ''
    this.history.clear()
    if (!id || !this.site) return // the snapshot that is on its way looks after it
    this.note = ''
    if (!this.machine(id)) {
      this.miss(id)
      return
    }
    const told = await this.story(id).catch((e: unknown) => cause(e))
    if (this.open === id) this.tell(told)
  }

  // miss closes what is not here, a stale bookmark or a slip of the pen.
  private miss(id: string): void {
    this.open = null
    this.note = `This plant has no machine “${id}”.`
    history.replaceState(null, '', location.pathname + location.search)
  }

  private async story(id: string): Promise<Story> {
    const [states, hours, rates] = await Promise.all([
      rows<StateRow>('equipment-state', { equipment: id, from: '-49h' }),
      rows<OEERow>('oee', { equipment: id, window: 'hour', from: '-49h' }),
      rows<RateRow>('production-rate', { equipment: id, from: '-49h' }),
    ])
    return { states, hours, rates }
  }

  // tell takes in the story of the open machine, or why there is none.
  private tell(told: Story | string): void {
    if (typeof told === 'string') {
      this.openTrouble = told
      return
    }
    this.openTrouble = ''
    // What the feed brought meanwhile is newer than the answer.
    told.states.filter((r) => fresh(this.history.get(r.from), r)).forEach((r) => this.state(r))
    told.hours.filter((r) => fresh(this.oee.get(key(r)), r)).forEach((r) => this.oee.set(key(r), r))
    told.rates.filter((r) => fresh(this.rate.get(key(r)), r)).forEach((r) => this.rate.set(key(r), r))
    this.openLoaded = true
    this.turn++
  }

  private progress(t: Told): void {
    this.heard = Date.now()
    // Figures of before the break must not pass for those of this instant.
    if (this.held && this.loaded) {
      this.later = t
      return
    }
    this.told = { plant: Date.parse(t.plant_now), at: performance.now(), speed: t.plant_speed }
    this.toldAt = this.told.plant
    this.speed = t.plant_speed
    this.products = Object.fromEntries(t.products.map((p) => [p.id, p]))
    this.tick()
  }

  private frame(data: string): void {
    this.heard = Date.now()
    if (this.held) {
      this.held.push(data)
      return
    }
    const f = JSON.parse(data) as { product: string; rows: unknown[] }
    const put: Record<string, (r: never) => void> = {
      'equipment-state': (r: StateRow) => this.state(r),
      oee: (r: OEERow) => place(this.oee, key(r), r),
      'production-rate': (r: RateRow) => place(this.rate, key(r), r),
      coverage: (r: GapRow) => this.gap(r),
    }
    const take = put[f.product]
    if (!take) return
    // What is withdrawn goes first: its successor may have begun before it.
    const order = (f.rows as { is_withdrawn?: boolean }[]).toSorted((a, b) => Number(b.is_withdrawn ?? false) - Number(a.is_withdrawn ?? false))
    order.forEach((r) => take(r as never))
    this.dirty = true
  }

  private state(r: StateRow): void {
    const was = this.current.get(r.equipment)
    let of = this.recent.get(r.equipment)
    if (!of) this.recent.set(r.equipment, (of = new Map()))
    place(of, r.from, r)
    if (r.equipment === this.open) place(this.history, r.from, r)
    if (r.is_withdrawn) {
      if (was?.from === r.from) this.current.delete(r.equipment)
    } else if (!was || was.from <= r.from) this.current.set(r.equipment, r)
  }

  private gap(r: GapRow): void {
    place(this.gaps, `${r.source}|${r.from}`, r)
  }

  private tick(): void {
    const t = this.told
    if (t.at) this.now = t.plant + (performance.now() - t.at) * (this.link === 'live' ? t.speed : 0)
    this.replan()
    if (!this.dirty) return
    this.dirty = false
    this.turn++
    const old = new Date(this.now - keep).toISOString()
    for (const m of [this.oee, this.rate] as Map<string, { from: string }>[])
      for (const [k, r] of m) if (r.from < old) m.delete(k)
    const far = new Date(this.at - near).toISOString()
    for (const m of this.recent.values()) for (const [k, r] of m) if (r.to !== null && r.to < far) m.delete(k)
    // These last until they end; an open one is never old.
    for (const m of [this.history, this.gaps] as Map<string, { to: string | null }>[])
      for (const [k, r] of m) if (r.to !== null && r.to < old) m.delete(k)
  }
}

const fresh = <T extends { produced_at: string }>(was: T | undefined, r: T): boolean => !was || was.produced_at <= r.produced_at

function place<T extends { is_withdrawn?: boolean }>(m: Map<string, T>, k: string, r: T): void {
  if (r.is_withdrawn) m.delete(k)
  else m.set(k, r)
}

const cause = (e: unknown): string => {
  const words = e instanceof Error ? e.message : String(e)
  return /fetch|network/i.test(words) ? 'The hub does not answer.' : words
}

// newest is the latest window of a kind a machine has a row for; before gives
// the one that ended before it began.
export function newest<T extends { equipment: string; window: string; from: string }>(
  m: Map<string, T>, equipment: string, window: string, before?: string): T | undefined {
  let best: T | undefined
  for (const r of m.values())
    if (r.equipment === equipment && r.window === window && (!before || r.from < before) && (!best || r.from > best.from)) best = r
  return best
}

// leading is the window a machine is judged by: its shift where its calendar has
// shifts, else its day, else its hour.
export const leading = (p: Plant, equipment: string): OEERow | undefined =>
  (p.plan(equipment).shifts.length ? newest(p.oee, equipment, 'shift') : undefined) ?? newest(p.oee, equipment, 'day') ?? newest(p.oee, equipment, 'hour')
