import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Log } from '../lib/log.ts'

/**
 * How many neighbours a machine with pods on Layer2 networks comes to know:
 * each pod has an entry for each other that it speaks to, and the tables, one for
 * each family, are the whole machine's, whatever namespaces there are. The kernel's
 * own (128, 512, 1024) are a workstation's. Below the first nothing is
 * forgotten, above the second what is older than five seconds is, above the
 * third nobody finds a new neighbour. An entry takes half a kilobyte.
 */
const thresholds = { gc_thresh1: 8192, gc_thresh2: 32768, gc_thresh3: 65536 } as const

/**
 * Raises the neighbour tables of this machine to `thresholds`; those that are
 * higher stay. Where it may not, a warning says what to do; in a network
 * namespace that is not the machine's first, which has no such settings, a line
 * says so. `sys`: where /proc/sys is.
 */
export function raiseNeighbourTables(log: Log, sys = '/proc/sys'): void {
  for (const family of ['ipv4', 'ipv6']) {
    const dir = `net/${family}/neigh/default`
    const lower = Object.entries(thresholds).filter(([name, wanted]) => {
      const held = read(join(sys, dir, name))
      return held !== undefined && held < wanted
    })
    if (read(join(sys, dir, 'gc_thresh3')) === undefined) {
      log.info(
        `the neighbour table of ${family} is set by the machine that this namespace is on; raise net.${family}.neigh.default.gc_thresh1, 2 and 3 there to ${Object.values(thresholds).join(', ')} where pods use Layer2 networks`,
      )
      continue
    }
    // The highest first: at no moment is the second above the third.
    const refused = lower.toReversed().flatMap(([name, wanted]) => {
      const code = write(join(sys, dir, name), wanted)
      return code === undefined ? [] : [{ setting: `net.${family}.neigh.default.${name}`, wanted, code }]
    })
    if (refused[0])
      log.warn(
        `raise the neighbour table of ${family}: ${refused[0].setting} cannot be written (${refused[0].code}); put ${refused.map(({ setting, wanted }) => `${setting}=${wanted}`).join(', ')} into /etc/sysctl.d of this node, else its pods and the node itself may not find new neighbours`,
      )
    else if (lower.length > 0) log.info(`raised the neighbour table of ${family}`, Object.fromEntries(lower))
  }
}

/** Undefined where there is no such setting. */
function read(path: string): number | undefined {
  try {
    return Number(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}

/** Why it could not be written. */
function write(path: string, value: number): string | undefined {
  try {
    writeFileSync(path, String(value))
    return undefined
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error)
  }
}
