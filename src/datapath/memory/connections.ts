import { connectionOf } from '../../plan/trace.ts'
import type { Frame } from './frame.ts'

/** Linux's own for UDP: nf_conntrack_udp_timeout and …_stream. */
const forgottenMs = { unanswered: 30_000, answered: 120_000 } as const

/** Connection tracking of one namespace: what `ct state` sees, and the way back for translated packets. */
export class Connections {
  readonly #held = new Map<string, Direction>()
  readonly #nowMs: () => number
  #sweepAt = 1024

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** Whether the connection (`connectionOf`) is known and was heard of lately. */
  isOpen(connection: string): boolean {
    return this.#find(connection) !== undefined
  }

  /** The packet with its state. */
  track(frame: Frame): Frame {
    const held = this.#find(connectionOf(frame))
    const known = held && (!held.original || held.connection.answered)
    return { ...frame, ctState: known ? 'established' : 'new', ctConfirmed: held !== undefined }
  }

  /** The packet got through: its connection is known from now on. */
  confirm(frame: Frame): void {
    if (!frame.ip || frame.ctState === 'untracked') return
    const held = this.#find(connectionOf(frame))
    if (!held) {
      this.#begin(frame, frame)
      return
    }
    held.connection.seenMs = this.#nowMs()
    if (!held.original) held.connection.answered = true
  }

  /** The packet under the address it leaves by: the connection's, or for a new one `masquerade`. */
  translate(frame: Frame, masquerade: string | undefined): Frame {
    if (!frame.ip || frame.ctState === 'untracked') return frame
    const held = this.#find(connectionOf(frame))
    const saddr = held ? held.connection.as : masquerade
    if (saddr === undefined || held?.original === false) return frame
    const translated: Frame = { ...frame, ip: { ...frame.ip, saddr } }
    if (!held) this.#begin(frame, translated)
    return translated
  }

  /** An answer to a translated packet, under the address that the packet had. */
  untranslate(frame: Frame): Frame {
    const held = this.#find(connectionOf(frame))
    if (!frame.ip || !held || held.original || held.connection.as === undefined) return frame
    held.connection.answered = true
    return { ...frame, ip: { ...frame.ip, daddr: held.connection.from } }
  }

  #begin(sent: Frame, translated: Frame): void {
    const from = sent.ip?.saddr ?? ''
    const as = sent === translated ? undefined : translated.ip?.saddr
    const seenMs = this.#nowMs()
    const connection: Connection = { answered: false, seenMs, from, ...(as === undefined ? {} : { as }) }
    this.#held.set(connectionOf(sent), { original: true, connection })
    this.#held.set(connectionOf(turned(translated)), { original: false, connection })
    if (this.#held.size < this.#sweepAt) return
    for (const known of this.#held.keys()) this.#find(known)
    this.#sweepAt = Math.max(1024, 2 * this.#held.size)
  }

  /** Absent too when it was forgotten meanwhile. */
  #find(connection: string): Direction | undefined {
    const held = this.#held.get(connection)
    if (!held) return undefined
    const { answered, seenMs } = held.connection
    if (this.#nowMs() - seenMs < forgottenMs[answered ? 'answered' : 'unanswered']) return held
    this.#held.delete(connection)
    return undefined
  }
}

interface Direction {
  original: boolean
  connection: Connection
}

interface Connection {
  answered: boolean
  seenMs: number
  from: string
  /** The address it was translated to. */
  as?: string
}

const turned = (frame: Frame): Frame => ({
  ...frame,
  ip: { saddr: frame.ip?.daddr ?? '', daddr: frame.ip?.saddr ?? '' },
  sport: frame.dport,
  dport: frame.sport,
})
