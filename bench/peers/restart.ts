import { mkdtempSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { cgroupOf } from '../../cluster/machines.ts'
import { processesIn } from '../../cluster/processes.ts'
import { type End, type Streaming, startStreams } from '../../cluster/stream.ts'
import { type Figures, median } from '../figures.ts'
import { type Held, NodeRuntime } from './node-runtime.ts'
import { onNode, output } from './on-node.ts'
import { overlays, topologies } from './overlays.ts'
import { type Place, until } from './place.ts'
import type { Size } from './rows.ts'
import { bare, hostLocal, other, type Way } from './ways.ts'

/** A daemon that makes pods' networks, and what is known of when it can again. */
interface Daemon {
  by: string
  way: Way
  networks: number
  /** Of the pod on the other node: those that are between nodes. */
  farNetworks: number
  program: string
  /** Selects its pods. */
  pods: string[]
  /** Where it says that it is in step with the node; absent: nowhere. */
  readyz?: string
}

const multus: Daemon = {
  by: 'multus-daemon',
  way: hostLocal,
  networks: 3,
  farNetworks: 1,
  program: '/usr/src/multus-cni/bin/multus-daemon',
  pods: ['-n', 'kube-system', '-l', 'name=multus'],
}

const ends = { killed: 'killed (SIGKILL)', replaced: 'replaced (its pod deleted, as upgrades do)' } as const
type Ended = keyof typeof ends

interface Found {
  /** Since its end, in seconds. */
  process: number
  ready: number
  added: number
  /** ADDs that succeeded meanwhile, though the pod was not on all of its networks. */
  short: string[]
  sent: number
  lost: number
}

/** What pods and their node notice when the daemon of their networks restarts. */
export async function restart(place: Place, size: Size): Promise<Figures[]> {
  const count = size({ small: 4, full: 100 })
  const rounds: Record<Ended, number> = size({
    small: { killed: 1, replaced: 1 },
    full: { killed: 2, replaced: 3 },
  })
  await place.secondPolynet()
  const { way, remove } = await overlays(place, 'stay')
  const agent: Daemon = {
    by: 'Polynet agent',
    way,
    networks: topologies.length + 1,
    farNetworks: topologies.length + 1,
    program: '/usr/bin/polynet-agent',
    pods: ['-n', 'polynet-system', '-l', 'app.kubernetes.io/component=agent'],
    readyz: 'http://127.0.0.1:9470/readyz',
  }
  const rows: Figures['rows'] = []
  const remarks: string[] = []
  try {
    for (const [daemon, far] of [
      [agent, { ...way, node: other.polynet }],
      [multus, bare],
    ] as const) {
      const found = await ofDaemon(place, daemon, far, count, rounds, remarks)
      for (const [how, all] of found) {
        const each = (name: Exclude<keyof Found, 'short'>) => all.map((one) => one[name])
        const sum = (name: 'sent' | 'lost') => each(name).reduce((total, n) => total + n, 0)
        rows.push([
          ...[daemon.by, ends[how], all.length, count, daemon.networks],
          ...[median(each('process')), daemon.readyz ? median(each('ready')) : '-'],
          ...[
            median(each('added')),
            Math.max(...each('added')),
            all.flatMap((one) => one.short).length,
            sum('sent'),
            sum('lost'),
          ],
        ])
      }
    }
  } finally {
    await remove()
  }
  return [
    {
      title: `A restart of what makes pods’ networks, on a node with ${count} pods (seconds since its end, medians)`,
      columns: [
        ...['of', 'how', 'times', 'pods', 'networks each', 'its process is there', 'in step'],
        ...['an ADD succeeds', 'max', 'with too few networks', 'packets', 'lost'],
      ],
      rows,
      notes: [
        'its process is there: up to then it is kubelet’s doing, which waits for 10 s before it starts again what was killed for a second time. in step: it answers',
        'ready, which Polynet’s agent does when it has compared the node with what it should be; Multus says nothing of the kind. an ADD succeeds: of a pod that',
        'waits since the end, asked for again and again. with too few networks: ADDs that succeeded before it, of which the pod had not all of its networks',
        '(Multus’ daemon takes its conf away when it ends, and the next one in the folder is the bridge plugin’s). packets: one a millisecond each way on each',
        'network, between two pods on the node and to one on another, all through. Multus has no part in its pods’ packets, which are the bridge plugin’s:',
        'that none is lost is not its merit. Aim: none lost.',
        ...remarks.slice(0, 6),
      ],
    },
  ]
}

async function ofDaemon(
  place: Place,
  daemon: Daemon,
  farWay: Way,
  count: number,
  rounds: Record<Ended, number>,
  remarks: string[],
): Promise<Map<Ended, Found[]>> {
  const { way, networks, farNetworks } = daemon
  const [near, far] = [await NodeRuntime.start(place, way), await NodeRuntime.start(place, farWay)]
  const times = rounds.killed + rounds.replaced
  const held: [NodeRuntime, Held[]][] = []
  const pods = async (runtime: NodeRuntime, prefix: string, n: number, on = networks) => {
    const made = await runtime.pods(prefix, n, on, way.prefix)
    held.push([runtime, made])
    return made
  }
  const found = new Map<Ended, Found[]>()
  try {
    const staying = await pods(near, 'stay-near', count)
    const [partner] = await pods(far, 'stay-far', 1, farNetworks)
    const waiting = await pods(near, 'stay-later', times)
    await sleep(1000)
    for (const { failed } of [await near.cni('ADD', staying, 4), await far.cni('ADD', [partner!])])
      if (failed[0]) throw new Error(failed[0])
    const spots: [Spot, Spot][] = [
      [
        { node: way.node, pod: staying[0]! },
        { node: way.node, pod: staying[1]! },
      ],
      [
        { node: way.node, pod: staying[2]! },
        { node: farWay.node, pod: partner! },
      ],
    ]
    const addresses = {
      ...(await near.look(staying.slice(0, 3))),
      ...(await far.look([partner!])),
    }
    for (const how of ['killed', 'replaced'] as const)
      for (let round = 0; round < rounds[how]; round++) {
        const flowing: Streaming[] = []
        const one: Found = { process: 0, ready: 0, added: 0, short: [], sent: 0, lost: 0 }
        try {
          for (const pair of spots) flowing.push(await stream(place, pair, addresses))
          Object.assign(one, await end(place, daemon, how, near, waiting.shift()!))
          // What it does once it is there again is part of it.
          await sleep(2000)
        } finally {
          for (const each of flowing) {
            const tally = await each.stop()
            one.sent += tally.sent
            one.lost += tally.lost.reduce((sum, line) => sum + lostIn(line), 0)
            remarks.push(...tally.lost.map((line) => `${daemon.by}, ${how}: ${line}`))
          }
        }
        remarks.push(...one.short.slice(0, 1).map((why) => `${daemon.by}, ${how}: ${why}`))
        found.set(how, [...(found.get(how) ?? []), one])
      }
    return found
  } finally {
    for (const [runtime, made] of held) {
      await runtime.cni('DEL', made, 4)
      await runtime.remove(made)
    }
    near.close()
    far.close()
  }
}

interface Spot {
  node: string
  pod: Held
}

/** Packets both ways on each network that both are on. */
async function stream(
  place: Place,
  [a, b]: [Spot, Spot],
  addresses: Record<string, Record<string, string>>,
): Promise<Streaming> {
  const endOf = ({ pod }: Spot, name: string): End => ({
    interface: name,
    address: addresses[pod.name]?.[name] ?? '',
  })
  const names = Object.keys(addresses[a.pod.name] ?? {}).filter((name) => addresses[b.pod.name]?.[name])
  const streams = names.map((name) => ({
    network: `${name} ${a.node === b.node ? 'on one node' : 'across nodes'}`,
    ends: [endOf(a, name), endOf(b, name)] as [End, End],
  }))
  const nodes = new Map([a, b].map(({ node, pod }) => [pod.uid, { node, pod }]))
  const inHeld = {
    execInPod(uid: string, argv: string[]) {
      const { node, pod } = nodes.get(uid)!
      return place.cluster.exec(node, ['nsenter', `--net=/run/netns/${pod.name}`, '--', ...argv])
    },
  }
  const dir = mkdtempSync(join(place.dir, 'stream-'))
  return startStreams(inHeld, dir, [a.pod.uid, b.pod.uid], streams)
}

/** `blue 10.1.0.1 > 10.1.0.2: 3 of 1000 (…`; all of them where it ended early. */
const lostIn = (line: string): number => Number(/: (-?\d+) of \d+ /.exec(line)?.[1] ?? 1)

/** Ends the daemon, and says when it was there again. */
async function end(
  place: Place,
  daemon: Daemon,
  how: Ended,
  runtime: NodeRuntime,
  pod: Held,
): Promise<Pick<Found, 'process' | 'ready' | 'added' | 'short'>> {
  const { cluster, kubectl } = place
  const { node } = daemon.way
  const running = () => processesIn(`${cgroupOf(cluster.name)}/${node}`, daemon.program)
  const [old] = running()
  if (old === undefined) throw new Error(`${daemon.program} does not run on ${node}`)
  const beganUs = nowUs()
  if (how === 'killed') process.kill(old, 'SIGKILL')
  else
    await kubectl([
      ...['delete', 'pods', ...daemon.pods, `--field-selector=spec.nodeName=${node}`, '--wait=false'],
    ])
  const gone = () => !running().includes(old)
  const [ready, { addedUs, short }] = await Promise.all([
    daemon.readyz ? readyUs(place, node, daemon.readyz, gone) : beganUs,
    attached(runtime, pod, gone),
  ])
  await until('the process to be there', async () => running().length > 0)
  const since = (us: number) => Math.max(0, us - beganUs) / 1e6
  return { process: since(startedUs(running()[0]!)), ready: since(ready), added: since(addedUs), short }
}

const nowUs = (): number => Number(process.hrtime.bigint() / 1000n)

/** When the process was started; the kernel counts ticks of 10 ms since the machine's start. */
function startedUs(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[19]) * 10_000
}

/** When it answered with ok, as the node sees it; what is asked before `gone` does not count. */
async function readyUs(place: Place, node: string, url: string, gone: () => boolean): Promise<number> {
  await until('the process to be gone', async () => gone())
  const script = `for (;;) {
    const answer = await fetch('${url}', { signal: AbortSignal.timeout(1000) }).catch(() => undefined)
    if (answer?.ok) break
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  console.log(String(process.hrtime.bigint() / 1000n))`
  const argv = [process.execPath, '--input-type=module', '-e', script]
  return Number(await output([...(await onNode(place, node)), ...argv], 120_000))
}

/** When an ADD succeeded that was asked for again and again; how many succeeded before it by half. */
async function attached(
  runtime: NodeRuntime,
  pod: Held,
  gone: () => boolean,
): Promise<{ addedUs: number; short: string[] }> {
  await until('the process to be gone', async () => gone())
  const short: string[] = []
  let [addedUs, why] = [0, '']
  let tries = 0
  await until('an ADD to succeed', async () => {
    try {
      addedUs = (await runtime.tryOnce(pod, `${pod.name}-${tries++}`)).atUs
      return true
    } catch (error) {
      // As `runtime.ts` says it.
      why = (error as Error).message
      if (/it has \d+ of \d+ interfaces/.test(why)) short.push(why)
      return false
    }
  }).catch((error: Error) => {
    throw new Error(`${error.message}: ${why}`)
  })
  return { addedUs, short }
}
