import type { Frame } from './frame.ts'

/** Connection tracking of one namespace: what `ct state` sees, and the way back for translated packets. */
export class Connections {
  readonly #held = new Map<string, Direction>()

  /** The packet with its state. */
  track(frame: Frame): Frame {
    const held = this.#held.get(tuple(frame))
    const known = held && (!held.original || held.connection.answered)
    return { ...frame, ctState: known ? 'established' : 'new' }
  }

  /** The packet got through: its connection is known from now on. */
  confirm(frame: Frame): void {
    if (!frame.ip || frame.ctState === 'untracked') return
    const held = this.#held.get(tuple(frame))
    if (!held) this.#begin(frame, frame)
    else if (!held.original) held.connection.answered = true
  }

  /** The packet under the address it leaves by: the connection's, or for a new one `masquerade`. */
  translate(frame: Frame, masquerade: string | undefined): Frame {
    if (!frame.ip || frame.ctState === 'untracked') return frame
    const held = this.#held.get(tuple(frame))
    const saddr = held ? held.connection.as : masquerade
    if (saddr === undefined || held?.original === false) return frame
    const translated: Frame = { ...frame, ip: { ...frame.ip, saddr } }
    if (!held) this.#begin(frame, translated)
    return translated
  }

  /** An answer to a translated packet, under the address that the packet had. */
  untranslate(frame: Frame): Frame {
    const held = this.#held.get(tuple(frame))
    if (!frame.ip || !held || held.original || held.connection.as === undefined) return frame
    held.connection.answered = true
    return { ...frame, ip: { ...frame.ip, daddr: held.connection.from } }
  }

  #begin(sent: Frame, translated: Frame): void {
    const from = sent.ip?.saddr ?? ''
    const as = sent === translated ? undefined : translated.ip?.saddr
    const connection: Connection = { answered: false, from, ...(as === undefined ? {} : { as }) }
    this.#held.set(tuple(sent), { original: true, connection })
    this.#held.set(tuple(turned(translated)), { original: false, connection })
  }
}

interface Direction {
  original: boolean
  connection: Connection
}

interface Connection {
  answered: boolean
  from: string
  /** The address it was translated to. */
  as?: string
}

const tuple = ({ l4proto, ip, sport, dport }: Frame): string =>
  `${l4proto} ${ip?.saddr} ${sport ?? 0} ${ip?.daddr} ${dport ?? 0}`

const turned = (frame: Frame): Frame => ({
  ...frame,
  ip: { saddr: frame.ip?.daddr ?? '', daddr: frame.ip?.saddr ?? '' },
  sport: frame.dport,
  dport: frame.sport,
})
