import { readFileSync, writeFileSync } from 'node:fs'
import { Fault } from '../../lib/fault.ts'
import { addressOf, errnoName } from '../../lib/libc.ts'
import { Batch, NETLINK_NETFILTER, NETLINK_ROUTE, Netlink } from './netlink.ts'
import { inside } from './netns.ts'
import type { DataType } from './nft-values.ts'
import { getLink, seenLink } from './route.ts'
import { close, ioctl, open } from './syscall.ts'

const SIOCGIFINDEX = 0x8933
const SIOCETHTOOL = 0x8946
const ETHTOOL_GLINK = 10

/**
 * One network namespace, held open: its sockets stay in it, whichever
 * namespace the thread is in. While it is open, the namespace cannot end.
 */
export class Place {
  readonly path: string
  readonly fd: number
  readonly route: Netlink
  #nft: Netlink | undefined
  /** Indexes of links that were looked up; wrong once somebody replaces a link behind our back. */
  readonly indexes = new Map<string, number>()
  /** How sets of table `polynet` are keyed, by family and name. */
  readonly sets = new Map<string, { types: DataType[]; interval: boolean }>()
  #deletes: Netlink | undefined
  #connections: Netlink | undefined

  /** Throws a `kernel` fault when there is no namespace at `path`. */
  constructor(path: string) {
    this.path = path
    this.fd = open(path)
    try {
      this.route = inside(this.fd, () => new Netlink(NETLINK_ROUTE))
    } catch (error) {
      close(this.fd)
      throw error
    }
  }

  get nft(): Netlink {
    this.#nft ??= inside(this.fd, () => new Netlink(NETLINK_NETFILTER))
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
    const batch = new Batch()
    getLink(batch, `find link ${name}`, name)
    for (const message of this.route.send(batch)) this.indexes.set(name, seenLink(message).index)
    const found = this.indexes.get(name)
    if (found === undefined) throw new Fault('kernel', `find link ${name}`, `there is none in ${this.path}`)
    return found
  }

  /** The index of a link that was just made, without waiting for the kernel's lock on network configuration. */
  newIndex(name: string): number {
    const request = Buffer.alloc(40)
    request.write(name, 0, 15)
    const code = ioctl(this.route.fd, SIOCGIFINDEX, request)
    if (code !== 0) throw new Fault('kernel', `find link ${name}`, errnoName(code))
    const index = request.readInt32LE(16)
    this.indexes.set(name, index)
    return index
  }

  /** Has the kernel work off what happened to the link's carrier, before anything else does. Absent: nothing happens. */
  settle(name: string): void {
    const value = Buffer.alloc(8)
    value.writeUInt32LE(ETHTOOL_GLINK, 0)
    const request = Buffer.alloc(40)
    request.write(name, 0, 15)
    request.writeBigUInt64LE(addressOf(value), 16)
    ioctl(this.route.fd, SIOCETHTOOL, request)
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
        const code = (error as NodeJS.ErrnoException).code ?? String(error)
        if (code === 'ENOENT' && name.startsWith('bridge/')) return false
        throw new Fault('kernel', `set ${name} to ${value}`, code, error)
      }
    }
    return inside(this.fd, () => settings.filter(differ)).map(([name]) => name)
  }

  close(): void {
    this.route.close()
    this.#nft?.close()
    this.#deletes?.close()
    this.#connections?.close()
    close(this.fd)
  }
}
