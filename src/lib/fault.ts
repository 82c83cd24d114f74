/**
 * What went wrong, in a form a caller can act on: a kind, which exists only
 * because some caller treats it differently, and one sentence,
 * `doing: problem; remedy`.
 */
export type Kind = keyof typeof answers

/** How each program answers each kind: retry or not, CNI error code (SPEC 1.1 "Error"), HTTP status, exit code. */
export const answers = {
  /** The user's input is wrong; the same input will fail again. */
  invalid: { retry: false, cni: 7, http: 422, exit: 2 },
  /** The user may not do this. */
  forbidden: { retry: false, cni: 7, http: 403, exit: 3 },
  /** Something named does not exist (yet). */
  missing: { retry: true, cni: 11, http: 404, exit: 4 },
  /** Something with that name exists already. */
  exists: { retry: false, cni: 11, http: 409, exit: 4 },
  /** Somebody else changed the object in between: read it again. */
  conflict: { retry: true, cni: 11, http: 409, exit: 5 },
  /** A watch or a list fell behind what the server still remembers: list again. */
  expired: { retry: true, cni: 11, http: 410, exit: 5 },
  /** No address, identifier or device is left. */
  exhausted: { retry: true, cni: 11, http: 503, exit: 5 },
  /** A peer (API server, agent, kernel lock) does not answer now. */
  unavailable: { retry: true, cni: 11, http: 503, exit: 5 },
  /** A foreign CNI plugin failed. */
  plugin: { retry: true, cni: 11, http: 502, exit: 6 },
  /** The kernel refused something it should have taken. */
  kernel: { retry: true, cni: 11, http: 500, exit: 6 },
  /** This machine, kernel or server cannot do that at all. */
  unsupported: { retry: false, cni: 7, http: 501, exit: 7 },
} as const satisfies Record<string, { retry: boolean; cni: number; http: number; exit: number }>

export class Fault extends Error {
  readonly kind: Kind
  /** What was being done, in a few words. */
  readonly doing: string
  /** What is wrong, and after a semicolon what to do about it. */
  readonly problem: string

  constructor(kind: Kind, doing: string, problem: string, cause?: unknown) {
    super(`${doing}: ${problem}`, cause === undefined ? undefined : { cause })
    this.name = 'Fault'
    this.kind = kind
    this.doing = doing
    this.problem = problem
  }
}

/** The fault that `error` is, or an `unavailable` one around an error nobody foresaw. */
export function asFault(error: unknown, doing: string): Fault {
  if (error instanceof Fault) return error
  return new Fault('unavailable', doing, error instanceof Error ? error.message : String(error), error)
}

export const isFault = (error: unknown, ...kinds: Kind[]): error is Fault =>
  error instanceof Fault && (kinds.length === 0 || kinds.includes(error.kind))

/** One thing wrong with some input: where (`spec.subnets[1].cidr`), and what to do about it. */
export interface Problem {
  path: string
  problem: string
  /** What it lacks may be made later: `here` by whoever wrote the input, `elsewhere` by somebody else. */
  lacking?: 'here' | 'elsewhere'
}

/** The value, or everything that is wrong with the input. */
export type Parsed<T> = { ok: true; value: T } | { ok: false; problems: Problem[] }

export const sentence = (problems: Problem[]): string =>
  problems.map((p) => (p.path ? `${p.path}: ${p.problem}` : p.problem)).join('; ')
