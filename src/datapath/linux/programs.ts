import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { Family } from '../../lib/ip.ts'
import { inside } from './netns.ts'

/** A UDP socket that is bound in a network namespace. */
export interface BoundSocket {
  port: number
  family: Family
  /** Of which families nobody else can have the port, at any address. */
  takes: Family[]
  inode: string
}

/** The UDP sockets of the namespace that a descriptor is of. */
export function udpSockets(netns: number): BoundSocket[] {
  const read = (name: string) => readFileSync(`/proc/thread-self/net/${name}`, 'latin1')
  const [v4, v6] = inside(netns, () => [read('udp'), existing(() => read('udp6'))])
  return [...socketsIn(v4, 4), ...socketsIn(v6 ?? '', 6)]
}

/** A line each: `sl local_address rem_address st … inode`, addresses as `<hex>:<hex port>`. */
function socketsIn(text: string, family: Family): BoundSocket[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line): BoundSocket[] => {
      const words = line.trim().split(/\s+/)
      const [address = '', port = ''] = (words[1] ?? '').split(':')
      const inode = words[9]
      if (!inode) return []
      return [{ port: Number.parseInt(port, 16), family, takes: taken(address, family), inode }]
    })
}

/** One for any IPv6 address takes IPv4, too, unless it was told not to, which is not to be seen; those who do that have another for IPv4. */
function taken(address: string, family: Family): Family[] {
  if (family === 4) return [4]
  if (/^0+$/.test(address)) return [4, 6]
  return address.startsWith('0000000000000000FFFF0000') ? [4] : [6]
}

/** The program that has one of these sockets, as `dnsmasq (process 812)`; undefined where no process shows one. */
export function holderOf(inodes: string[]): string | undefined {
  const links = new Set(inodes.map((inode) => `socket:[${inode}]`))
  for (const process of readdirSync('/proc')) {
    if (!/^\d+$/.test(process)) continue
    // What ends meanwhile, or lets nobody look, has none.
    const files = existing(() => readdirSync(`/proc/${process}/fd`)) ?? []
    if (!files.some((file) => links.has(existing(() => readlinkSync(`/proc/${process}/fd/${file}`)) ?? '')))
      continue
    const name = existing(() => readFileSync(`/proc/${process}/comm`, 'utf8').trim()) ?? 'a program'
    return `${printable(name)} (process ${process})`
  }
  return undefined
}

/** Whoever runs a process chooses its name. */
const printable = (name: string): string => name.replace(/[^ -~]/g, '?')

function existing<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch {
    return undefined
  }
}
