import { Fault } from '../../lib/fault.ts'
import { errnoName } from '../../lib/libc.ts'
import { bind, close, MSG_DONTWAIT, receive, send, sendAsync, setOption, socket } from './syscall.ts'

/**
 * Netlink: messages in, messages out (netlink(7); little-endian machines
 * only, as far as numbers in host order go). A batch is any number of
 * messages in one system call; the kernel has done them all when it returns,
 * and its answers are waiting: what it refuses it always says, and that it has
 * done something it is not asked to say.
 */

export const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12

const REQUEST = 1
export const DUMP = 0x300
export const REPLACE = 0x100
export const EXCL = 0x200
export const CREATE = 0x400
export const APPEND = 0x800

const DUMP_INTR = 0x10
const ACK_TLVS = 0x200
const CAPPED = 0x100
const NLMSG_ERROR = 2
const NLMSG_DONE = 3
const NESTED = 0x8000
const TYPE_MASK = 0x3fff

const AF_NETLINK = 16
const SOCK_RAW = 3
const SOL_NETLINK = 270
const SOL_SOCKET = 1
const SO_SNDBUFFORCE = 32
const SO_RCVBUFFORCE = 33

/** What a message is for, said when the kernel refuses it; a function where saying it takes longer than sending it. */
export type What = string | (() => string)

/** Messages on their way to the kernel. */
export class Batch {
  bytes = Buffer.allocUnsafe(1024)
  length = 0
  readonly #what: What[] = []
  #lastMessage = 0

  get count(): number {
    return this.#what.length
  }

  /** What that message is for. */
  what(index: number): string {
    const what = this.#what[index] ?? 'netlink'
    return typeof what === 'string' ? what : what()
  }

  /** Starts a message; what follows belongs to it until the next one starts. */
  message(type: number, flags: number, what: What): this {
    this.#finish()
    this.#lastMessage = this.length
    this.#what.push(what)
    this.u32(0)
      .u16(type)
      .u16(flags | REQUEST)
      .u32(0)
      .u32(0)
    return this
  }

  u8(value: number): this {
    this.#room(1)
    this.bytes[this.length++] = value
    return this
  }

  u16(value: number): this {
    this.#room(2)
    const { bytes, length: at } = this
    bytes[at] = value
    bytes[at + 1] = value >>> 8
    this.length = at + 2
    return this
  }

  u32(value: number): this {
    this.#room(4)
    const { bytes, length: at } = this
    bytes[at] = value
    bytes[at + 1] = value >>> 8
    bytes[at + 2] = value >>> 16
    bytes[at + 3] = value >>> 24
    this.length = at + 4
    return this
  }

  raw(bytes: Uint8Array): this {
    this.#room(bytes.length)
    this.bytes.set(bytes, this.length)
    this.length += bytes.length
    return this
  }

  attribute(type: number, bytes: Uint8Array): this {
    this.#header(type, bytes.length).raw(bytes)
    return this.#pad()
  }

  attribute8(type: number, value: number): this {
    return this.#header(type, 1).u8(value).#pad()
  }

  attribute16(type: number, value: number): this {
    return this.#header(type, 2).u16(value).#pad()
  }

  attribute32(type: number, value: number): this {
    return this.#header(type, 4).u32(value)
  }

  attribute16be(type: number, value: number): this {
    return this.#header(type, 2)
      .u8(value >>> 8)
      .u8(value & 255)
      .#pad()
  }

  attribute32be(type: number, value: number): this {
    this.#header(type, 4).#room(4)
    this.length = this.bytes.writeUInt32BE(value >>> 0, this.length)
    return this
  }

  attribute64be(type: number, value: number): this {
    this.#header(type, 8).#room(8)
    this.length = this.bytes.writeUInt32BE(Math.floor(value / 2 ** 32), this.length)
    this.length = this.bytes.writeUInt32BE(value % 2 ** 32, this.length)
    return this
  }

  /** NUL-terminated. */
  attributeText(type: number, value: string): this {
    const size = Buffer.byteLength(value)
    this.#header(type, size + 1).#room(size + 4)
    this.length += this.bytes.write(value, this.length)
    return this.u8(0).#pad()
  }

  nest(type: number, inner: (batch: this) => void): this {
    const at = this.length
    this.#header(type | NESTED, 0)
    inner(this)
    this.bytes.writeUInt16LE(this.length - at, at)
    return this
  }

  /** Numbers the messages from `seq`. */
  close(seq: number): Buffer {
    this.#finish()
    let at = 0
    for (let i = 0; i < this.count; i++) {
      this.bytes.writeUInt32LE((seq + i) >>> 0, at + 8)
      at += align(this.bytes.readUInt32LE(at))
    }
    return this.bytes.subarray(0, this.length)
  }

  #header(type: number, size: number): this {
    return this.u16(size + 4).u16(type)
  }

  #pad(): this {
    while (this.length & 3) this.u8(0)
    return this
  }

  #finish(): void {
    if (this.count > 0) this.bytes.writeUInt32LE(this.length - this.#lastMessage, this.#lastMessage)
  }

  #room(size: number): void {
    if (this.length + size <= this.bytes.length) return
    const bigger = Buffer.allocUnsafe(Math.max(this.bytes.length * 2, this.length + size))
    this.bytes.copy(bigger, 0, 0, this.length)
    this.bytes = bigger
  }
}

/** A message that the kernel sent. Its bytes are its own. */
export interface Message {
  type: number
  flags: number
  /** Behind the netlink header. */
  payload: Buffer
  /** Which message of the batch it answers. */
  index: number
}

/** A message of a batch that the kernel refused. */
export interface Refusal {
  index: number
  what: string
  code: number
  /** The kernel's own words, where it has any. */
  text: string
}

export type Attributes = Map<number, Buffer>

export function attributes(bytes: Buffer, from = 0): Attributes {
  const found: Attributes = new Map()
  for (let at = from; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at)
    if (length < 4) break
    found.set(bytes.readUInt16LE(at + 2) & TYPE_MASK, bytes.subarray(at + 4, at + length))
    at += align(length)
  }
  return found
}

/** The first attribute of that type, where others are of no interest. */
export function attribute(bytes: Buffer, type: number, from = 0): Buffer | undefined {
  for (let at = from; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at)
    if (length < 4) return undefined
    if ((bytes.readUInt16LE(at + 2) & TYPE_MASK) === type) return bytes.subarray(at + 4, at + length)
    at += align(length)
  }
  return undefined
}

/** A nested attribute's list of attributes, in order, types repeated. */
export function attributeList(bytes: Buffer): { type: number; value: Buffer }[] {
  const found: { type: number; value: Buffer }[] = []
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at)
    if (length < 4) break
    found.push({ type: bytes.readUInt16LE(at + 2) & TYPE_MASK, value: bytes.subarray(at + 4, at + length) })
    at += align(length)
  }
  return found
}

export const textOf = (bytes: Buffer): string => {
  const end = bytes.indexOf(0)
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end)
}

export function refused({ what, code, text }: Refusal): Fault {
  if (text === 'Unknown device type')
    return new Fault('unsupported', what, 'this kernel has no links of that kind; load its module')
  return new Fault('kernel', what, text ? `${errnoName(code)}: ${text}` : errnoName(code))
}

const align = (length: number): number => (length + 3) & ~3

const received = Buffer.allocUnsafe(256 * 1024)

/** What the kernel's own limits have room for, answers included. */
const smallBytes = 8 * 1024

/** A netlink socket of the namespace that the thread was in when it was made. */
export class Netlink {
  readonly fd: number
  readonly #protocol: number
  readonly #mostListed: number
  #seq = 1
  #large = false

  /** `groups`: a bit mask of multicast groups to listen to. `mostListed`: how many bytes a list may have; the socket is of no more use after one that has more. */
  constructor(protocol: number, groups = 0, mostListed = Number.POSITIVE_INFINITY) {
    this.fd = socket(AF_NETLINK, SOCK_RAW, protocol)
    this.#protocol = protocol
    this.#mostListed = mostListed
    setOption(this.fd, SOL_NETLINK, 11, 1) // NETLINK_EXT_ACK
    setOption(this.fd, SOL_NETLINK, 10, 1) // NETLINK_CAP_ACK
    if (groups !== 0) {
      this.#enlarge()
      const address = Buffer.alloc(12)
      address.writeUInt16LE(AF_NETLINK, 0)
      address.writeUInt32LE(groups, 8)
      bind(this.fd, address)
    }
  }

  close(): void {
    close(this.fd)
  }

  /** Sends the batch; the messages it led to. Throws the first refusal. */
  send(batch: Batch): Message[] {
    const { messages, refusals } = this.try(batch)
    if (refusals[0]) throw refused(refusals[0])
    return messages
  }

  /** Sends the batch; what came back, refusals as values. The kernel goes on behind a refused message (except for nftables: all or none). */
  try(batch: Batch): { messages: Message[]; refusals: Refusal[] } {
    if (batch.count === 0) return { messages: [], refusals: [] }
    const { first, bytes } = this.#closed(batch)
    send(this.fd, bytes, bytes.length)
    return this.#read(batch, first, 'what is there')
  }

  /** Like `try`, with the kernel's work done on a thread of the pool. Nothing else may be sent on this socket meanwhile. */
  async tryAsync(batch: Batch): Promise<{ messages: Message[]; refusals: Refusal[] }> {
    if (batch.count === 0) return { messages: [], refusals: [] }
    const { first, bytes } = this.#closed(batch)
    await sendAsync(this.fd, bytes, bytes.length)
    return this.#read(batch, first, 'what is there')
  }

  /** Everything that the one message of the batch, a dump, lists. Asks again when the list changed meanwhile. */
  dump(make: () => Batch): Message[] {
    this.#enlarge()
    for (let attempt = 0; ; attempt++) {
      const batch = make()
      const { first, bytes } = this.#closed(batch)
      send(this.fd, bytes, bytes.length)
      const { messages, interrupted } = this.#listed(batch, first)
      if (!interrupted || attempt === 20) return messages
    }
  }

  /** Like `dump`, with the most of it done on a thread of the pool. */
  async dumpAsync(make: () => Batch): Promise<Message[]> {
    this.#enlarge()
    for (let attempt = 0; ; attempt++) {
      const batch = make()
      const { first, bytes } = this.#closed(batch)
      await sendAsync(this.fd, bytes, bytes.length)
      const { messages, interrupted } = this.#listed(batch, first)
      if (!interrupted || attempt === 20) return messages
    }
  }

  /** What a listening socket has heard since the last time. */
  heard(): Message[] {
    const messages: Message[] = []
    for (;;) {
      const length = receive(this.fd, received, MSG_DONTWAIT)
      if (length === -1) return messages
      // Too much at once (ENOBUFS): some was lost, the rest follows.
      for (let at = 0; at + 16 <= length; ) {
        const size = received.readUInt32LE(at)
        if (size < 16) break
        const payload = Buffer.from(received.subarray(at + 16, at + size))
        messages.push({
          type: received.readUInt16LE(at + 4),
          flags: received.readUInt16LE(at + 6),
          payload,
          index: 0,
        })
        at += align(size)
      }
    }
  }

  /** The batch as it is sent, and the number of its first message. */
  #closed(batch: Batch): { first: number; bytes: Buffer } {
    if (this.#seq > 0x7fffffff) this.#seq = 1
    const first = this.#seq
    this.#seq += batch.count
    const bytes = batch.close(first)
    if (bytes.length > smallBytes) this.#enlarge()
    return { first, bytes }
  }

  /** What a dump lists, and whether that changed meanwhile. Throws its refusal. */
  #listed(batch: Batch, first: number): { messages: Message[]; interrupted: boolean } {
    const { messages, refusals, interrupted } = this.#read(batch, first, 'a list')
    if (refusals[0]) throw refused(refusals[0])
    return { messages, interrupted }
  }

  /** For long lists and large batches; what one attachment says goes without. */
  #enlarge(): void {
    if (this.#large) return
    this.#large = true
    if (this.#protocol === NETLINK_ROUTE) setOption(this.fd, SOL_NETLINK, 12, 1) // NETLINK_GET_STRICT_CHK
    // Refused without CAP_NET_ADMIN in the first user namespace; small batches still work then.
    setOption(this.fd, SOL_SOCKET, SO_SNDBUFFORCE, 32 << 20)
    setOption(this.fd, SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
  }

  /** The end of a list is said, and may be waited for. */
  #read(batch: Batch, first: number, upTo: 'what is there' | 'a list') {
    const messages: Message[] = []
    const refusals: Refusal[] = []
    let interrupted = false
    let listed = 0
    for (;;) {
      const length = receive(this.fd, received, upTo === 'a list' ? 0 : MSG_DONTWAIT)
      if (length === -1) return { messages, refusals, interrupted }
      if (length < 0)
        throw new Fault('kernel', batch.what(0), `${errnoName(-length)} while reading the answer`)
      listed += length
      if (listed > this.#mostListed)
        throw new Fault('kernel', batch.what(0), `there are more than ${this.#mostListed} bytes of them`)
      for (let at = 0; at + 16 <= length; ) {
        const size = received.readUInt32LE(at)
        if (size < 16) break
        const type = received.readUInt16LE(at + 4)
        const messageFlags = received.readUInt16LE(at + 6)
        const index = received.readUInt32LE(at + 8) - first
        const payload = received.subarray(at + 16, at + size)
        at += align(size)
        if (index < 0 || index >= batch.count) continue
        if (messageFlags & DUMP_INTR) interrupted = true
        if (type === NLMSG_ERROR || type === NLMSG_DONE) {
          const code = payload.length >= 4 ? -payload.readInt32LE(0) : 0
          if (code !== 0) {
            refusals.push({ index, what: batch.what(index), code, text: words(type, messageFlags, payload) })
          }
          if (upTo === 'a list') return { messages, refusals, interrupted }
        } else messages.push({ type, flags: messageFlags, payload: Buffer.from(payload), index })
      }
    }
  }
}

/** NLMSGERR_ATTR_MSG, behind the error code and (for an error) the header of the refused message. */
function words(type: number, flags: number, payload: Buffer): string {
  if (!(flags & ACK_TLVS)) return ''
  let from = 4
  if (type === NLMSG_ERROR) from = flags & CAPPED ? 20 : 4 + align(payload.readUInt32LE(4))
  const text = attribute(payload, 1, from)
  return text ? textOf(text) : ''
}
