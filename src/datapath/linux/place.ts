import { closeSync, openSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs'
import { Fault } from '../../lib/fault.ts'
import { addressOf, errnoName } from '../../lib/libc.ts'
import { Batch, NETLINK_NETFILTER, NETLINK_ROUTE, Netlink } from './netlink.ts'
import { inside } from './netns.ts'
import type { SetType } from './nft-sets.ts'
import { getLink, type SeenLink, seenLink } from './route.ts'
import { close, ioctl, open } from './syscall.ts'

const SIOCGIFINDEX = 0x8933
const SIOCETHTOOL = 0x8946
const ETHTOOL_GLINK = 10

/** struct ifreq, for one request after another. */
const request = Buffer.alloc(40)
const carrier = Buffer.alloc(8)
carrier.writeUInt32LE(ETHTOOL_GLINK, 0)
const settingBytes = Buffer.alloc(64)

function requestOf(name: string): Buffer {
  request.fill(0)
  request.write(name, 0, 15)
  return request
}

/**
 * One network namespace, held open: its sockets stay in it, whichever
 * namespace the thread is in. While it is open, the namespace cannot end.
 */
export class Place {
  readonly path: string
  readonly fd: number
  readonly #mostListed: number | undefined
  #route: Netlink | undefined
  #nft: Netlink | undefined
  /** Indexes of links that were looked up; wrong once somebody replaces a link behind our back. */
  readonly indexes = new Map<string, number>()
  /** How sets of table `polynet` are keyed, by family and name. */
  readonly sets = new Map<string, SetType>()
  #deletes: Netlink | undefined
  #connections: Netlink | undefined

  /** Throws a `kernel` fault when nothing is at `path`; one that is no namespace is noticed on the first visit. `mostListed`: as a `Netlink`'s. */
  constructor(path: string, mostListed?: number) {
    this.path = path
    this.#mostListed = mostListed
    this.fd = open(path)
  }

  get route(): Netlink {
    this.#route ??= inside(this.fd, () => new Netlink(NETLINK_ROUTE, 0, this.#mostListed))
    return this.#route
  }

  get nft(): Netlink {
    this.#nft ??= inside(this.fd, () => new Netlink(NETLINK_NETFILTER, 0, this.#mostListed))
    return this.#nft
  }

  /** For deletions, which take long and are waited for elsewhere. */
  get deletes(): Netlink {
    this.#deletes ??= inside(this.fd, () => new Netlink(NETLINK_ROUTE))
    return this.#deletes
  }

  /** For the kernel's memory of connections, which takes its time as well. */
  get connections(): Netlink {
    this.#connections ??= inside(this.fd, () => new Netlink(NETLINK_NETFILTER))
    return this.#connections
  }

  forget(): void {
    this.indexes.clear()
    this.sets.clear()
  }

  /** The index of the link of that name. Throws when there is none. */
  index(name: string): number {
    const known = this.indexes.get(name)
    if (known !== undefined) return known
    const { index } = this.link(name, `find link ${name}`)
    this.indexes.set(name, index)
    return index
  }

  /** The link of that name as it is. Throws when there is none. */
  link(name: string, doing: string): SeenLink {
    const batch = new Batch()
    getLink(batch, doing, name)
    const found = this.route.send(batch).map(seenLink)[0]
    if (!found) throw new Fault('kernel', doing, `there is none in ${this.path}`)
    return found
  }

  /** The index of a link that was just made, without waiting for the kernel's lock on network configuration. */
  newIndex(name: string): number {
    const code = ioctl(this.route.fd, SIOCGIFINDEX, requestOf(name))
    if (code !== 0) throw new Fault('kernel', `find link ${name}`, errnoName(code))
    const index = request.readInt32LE(16)
    this.indexes.set(name, index)
    return index
  }

  /** Has the kernel work off what happened to the link's carrier, before anything else does. Absent: nothing happens. */
  settle(name: string): void {
    requestOf(name).writeBigUInt64LE(addressOf(carrier), 16)
    ioctl(this.route.fd, SIOCETHTOOL, request)
  }

  /**
   * Links that `make` makes here start with these settings (below
   * /proc/sys/net, of `conf/default`), which are then what they were. An agent
   * that is killed meanwhile leaves them to later links of a pod whose ADD failed.
   */
  startingWith(settings: [string, string][], make: () => void): void {
    const changed: { file: number; before: string }[] = []
    const change = ([name, value]: [string, string]): void => {
      try {
        const file = openSync(`/proc/sys/net/${name}`, 'r+')
        const length = readSync(file, settingBytes, 0, settingBytes.length, 0)
        changed.push({ file, before: settingBytes.toString('latin1', 0, length) })
        writeSync(file, value, 0)
      } catch (error) {
        throw notSet(name, value, error)
      }
    }
    try {
      if (settings.length > 0)
        inside(this.fd, () => {
          settings.forEach(change)
          // What follows takes it, and being here once is enough.
          void this.route
        })
      make()
    } finally {
      for (const { file, before } of changed) {
        writeSync(file, before, 0)
        closeSync(file)
      }
    }
  }

  /**
   * Writes settings below /proc/sys/net; the names of those that differed.
   * Throws for one that this kernel does not have, unless it is of br_netfilter:
   * where that is not loaded, it does nothing that would have to be ended.
   */
  sysctls(settings: [string, string][], write: 'all' | 'differing' | 'dry'): string[] {
    if (settings.length === 0) return []
    const differ = ([name, value]: [string, string]): boolean => {
      const path = `/proc/sys/net/${name}`
      try {
        if (write !== 'all' && readFileSync(path, 'utf8').trim() === value) return false
        if (write !== 'dry') writeFileSync(path, value)
        return true
      } catch (error) {
        const fault = notSet(name, value, error)
        if (fault.problem === 'ENOENT' && name.startsWith('bridge/')) return false
        throw fault
      }
    }
    return inside(this.fd, () => settings.filter(differ)).map(([name]) => name)
  }

  close(): void {
    this.#route?.close()
    this.#nft?.close()
    this.#deletes?.close()
    this.#connections?.close()
    close(this.fd)
  }
}

const notSet = (name: string, value: string, error: unknown): Fault =>
  new Fault(
    'kernel',
    `set ${name} to ${value}`,
    (error as NodeJS.ErrnoException).code ?? String(error),
    error,
  )
