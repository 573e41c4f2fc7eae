// What the hub's HTTP port gives. Instants come as RFC 3339 text.

export interface Machine { id: string; name: string; kind: string; source: string }
export interface Line { id: string; machines: Machine[] | null }
interface Planned { from: string; to: string }
// What is planned of the machines that have one calendar.
export interface PlanTold {
  zone: string
  machines: string[] | null
  shifts: (Planned & { shift_id: string })[] | null
  stops: Planned[] | null
}
export interface Site {
  site: string
  zone: string
  lines: Line[] | null
  plans?: PlanTold[] | null // the first is the site's
  planned_through?: string
  reasons: Record<string, string> | null
}

export interface Envelope { is_final: boolean; revision: number; produced_at: string; is_withdrawn?: boolean }

export interface StateRow extends Envelope {
  equipment: string
  line: string
  from: string
  to: string | null
  state: string
  mode: string
  packml_state: number | null
  packml_name: string | null
  cause: string
  element: string | null
  reason: number | null
}

interface Window extends Envelope {
  equipment: string
  line: string
  window: string
  from: string
  to: string
  shift_id: string | null
  production_day: string
  produced_count: number | null
  good_count: number | null
  scrap_count: number | null
  unknown_seconds: number
  coverage_ratio: number | null
}

export type Ratio = 'oee' | 'availability' | 'effectiveness' | 'quality'

export type OEERow = Window & Record<`${Ratio}_ratio`, number | null> & Record<`${Ratio}_reason`, string | null> & {
  pbt_seconds: number
  apt_seconds: number
  aust_seconds: number
  adet_seconds: number
  adot_seconds: number
  planned_stop_seconds: number
  flags: string[] | null
}

export interface RateRow extends Window {
  rate_per_hour: number | null
  ideal_rate_per_hour: number | null
  energy_kwh: number | null
  counter_resets_count: number
}

export interface GapRow extends Envelope {
  source: string
  from: string
  to: string | null
  seconds: number
  cause: string
  count: number | null
  note: string | null
}

// Source is how far a connection was heard; a silent one holds nobody else back.
export interface Source { source: string; heard_through: string | null; silent: boolean }

export interface Progress {
  id: string
  known_from: string | null
  progress: string | null
  watermark: string | null
  lag_seconds: number
  catching_up: boolean
  sources?: Source[] | null // a hub of before has none
}

export interface Told { plant_now: string; plant_speed: number; products: Progress[] }

// signIn leads to the login, and from there back here.
function signIn(): void {
  location.assign(`/login?next=${encodeURIComponent(location.pathname + location.hash)}`)
}

// refused says why the live feed is not given, where it is for who looks and not for the
// hub; a feed's own error doesn't tell.
export async function refused(): Promise<string> {
  const answer = await fetch('/api/v1/live', { method: 'HEAD' }).catch(() => null)
  if (answer?.status === 401) signIn()
  return answer?.status === 403 ? 'This page shows the whole plant, and you may see a part of it only.' : ''
}

// Damage is where the record of who changed what is not what was written.
export interface Damage { file: string; n: number; what: string }

// damage is asked of the hub for who may read that record; to others nothing is said of it.
export async function damage(): Promise<Damage | null> {
  const answer = await fetch('/api/v1/audit?order=newest&limit=1').catch(() => null)
  return answer?.ok ? (((await answer.json().catch(() => null)) as { broken?: Damage } | null)?.broken ?? null) : null
}

async function get<T>(path: string): Promise<T> {
  const answer = await fetch(path, { headers: { Accept: 'application/json' } })
  if (answer.ok) return (await answer.json()) as T
  if (answer.status === 401) signIn()
  let why = `the hub answered ${answer.status}`
  try {
    const problem = (await answer.json()) as { detail?: string }
    if (problem.detail) why = problem.detail
  } catch {
    // an answer that is no problem document says no more than its status
  }
  throw new Error(why)
}

export const site = (): Promise<Site> => get<Site>('/api/v1/machines')

// rows takes all pages of a query.
export async function rows<T>(product: string, query: Record<string, string>): Promise<T[]> {
  const out: T[] = []
  const params = new URLSearchParams({ limit: '10000', ...query })
  for (;;) {
    const page = await get<{ data: T[]; next?: string | null }>(`/api/v1/products/${product}/rows?${params}`)
    out.push(...page.data)
    if (!page.next) return out
    params.set('cursor', page.next)
  }
}

export const latest = async <T>(product: string, query: Record<string, string> = {}): Promise<T[]> =>
  (await get<{ data: T[] }>(`/api/v1/products/${product}/latest?${new URLSearchParams(query)}`)).data
