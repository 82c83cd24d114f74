import { readdirSync, readFileSync } from 'node:fs'

/** A process of the cluster: which pod or node it is of says its control group. */
interface Running {
  pid: number
  cgroups: string
}

/** Every process that this one sees, those inside of nodes too. */
export const everyProcess = (): number[] =>
  readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)

/** The same with their control groups. One that ends meanwhile is left out. */
function* running(): Iterable<Running> {
  for (const pid of everyProcess())
    try {
      yield { pid, cgroups: readFileSync(`/proc/${pid}/cgroup`, 'latin1') }
    } catch {}
}

/** The network namespaces of all pods that run, as paths, by the pods' UIDs. */
export function netnsOfPods(): Map<string, string> {
  const found = new Map<string, string>()
  for (const { pid, cgroups } of running()) {
    const [, uid] = /\/pod([^/]+)\//.exec(cgroups) ?? []
    if (uid !== undefined && !found.has(uid)) found.set(uid, `/proc/${pid}/ns/net`)
  }
  return found
}

/** The processes below a control group whose command line has `word`. */
export function processesIn(cgroup: string, word: string): number[] {
  const found: number[] = []
  for (const { pid, cgroups } of running())
    if (cgroups.includes(`/${cgroup}/`) && argumentsOf(pid).includes(word)) found.push(pid)
  return found
}

/** Its command line; nothing where it has ended. */
export function argumentsOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  } catch {
    return []
  }
}
