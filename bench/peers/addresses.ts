import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type NodeAddresses, nodeAddresses } from '../../src/agent/addresses/addresses.ts'
import { openJournal } from '../../src/agent/journal/file.ts'
import type { Owner } from '../../src/ipam/port.ts'
import { connect } from '../../src/kube/cluster/connect.ts'
import { realClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { cpuOfChildren } from '../cpu.ts'
import { type Figures, quantile } from '../figures.ts'
import { allocatorAccount, kubeconfigFor } from './accounts.ts'
import type { Place } from './place.ts'
import { countAccounts, counts, spent } from './requests.ts'
import type { Size } from './rows.ts'
import { makeNodes, nodeCount, nodeName, onAllNodes } from './scale-nodes.ts'
import { type Asked, allocationsOf, forgetRange, whereaboutsOf } from './whereabouts.ts'

interface Outcome {
  ms: number
  /** Of each pod that got an address. */
  times: number[]
  addresses: string[]
  failed: string[]
  cpuMs: number
  requests: number
  conflicts: number
  /** Addresses still taken that pods have given back. */
  left: number
  giveBackMs: number
}

/** A thousand pods on ten nodes: each side's own allocator on the same API server, nothing attached. */
export async function addresses(place: Place, size: Size): Promise<Figures[]> {
  await countAccounts(place)
  const count = size({ small: 20, full: 1000 })
  const back = size({ small: 20, full: 200 })
  const dir = mkdtempSync(join(tmpdir(), 'polynet-addresses-'))
  try {
    const sides: [string, Outcome][] = [
      ['Polynet', await ofPolynet(place, dir, count, back)],
      ['Whereabouts', await ofWhereabouts(place, dir, count, back)],
    ]
    return [
      {
        title: `${count} addresses for the pods of ${nodeCount} nodes, each node giving one after another`,
        columns: [
          'by',
          's',
          'ms median',
          'ms p95',
          'CPU s',
          'API requests',
          'conflicts',
          'failed',
          'doubled',
          `${back} given back in s`,
          'left',
        ],
        rows: sides.map(([title, o]) => [
          title,
          o.ms / 1000,
          quantile(o.times, 0.5),
          quantile(o.times, 0.95),
          o.cpuMs / 1000,
          o.requests,
          o.conflicts,
          o.failed.length,
          o.addresses.length - new Set(o.addresses).size,
          o.giveBackMs / 1000,
          o.left,
        ]),
        notes: [
          'Whereabouts is executed once for an address, as its caller would; Polynet’s allocator is the agent’s own code with its journal on disk,',
          'ten of them in one process. CPU: of these, without the API server. API requests and conflicts: until all have an address.',
          ...sides.flatMap(([title, { failed }]) =>
            failed[0] ? [`${title}, first failure: ${failed[0]}`] : [],
          ),
        ],
      },
    ]
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

async function ofPolynet(place: Place, dir: string, count: number, back: number): Promise<Outcome> {
  const kube = await connect(await kubeconfigFor(place, dir, await allocatorAccount(place)))
  const { network, uids, remove } = await makeNodes(place, 'scale', { subnets: [{ cidr: '10.150.0.0/16' }] })
  const nodes: NodeAddresses[] = []
  const journals = []
  for (let i = 0; i < nodeCount; i++) {
    const journal = await openJournal(join(dir, nodeName(i)), { fsync: false })
    journals.push(journal)
    const deps = { kube, journal, clock: realClock, log: silentLog, restMs: 0, idleMs: 0 }
    nodes.push(nodeAddresses({ ...deps, node: { name: nodeName(i), uid: uids[i]! } }))
  }
  const ownerOf = (pod: number): Owner => ({
    podUID: `uid-${pod}`,
    containerID: `sandbox-${pod}`,
    interface: 'net1',
    pod: `bench/pod-${pod}`,
  })
  const found = start()
  const cpu = process.cpuUsage()
  const before = await counts(place)
  found.ms = await onAllNodes(count, async (node, pod) => {
    const began = performance.now()
    try {
      const { addresses } = await nodes[node]!.lease({ network, owner: ownerOf(pod) })
      found.times.push(performance.now() - began)
      found.addresses.push(addresses[0]!.address)
    } catch (error) {
      found.failed.push((error as Error).message)
    }
  })
  const { user, system } = process.cpuUsage(cpu)
  found.cpuMs = (user + system) / 1000
  const asked = spent(before, await counts(place))
  found.requests = asked.own.allocator!
  found.conflicts = asked.conflicts
  found.giveBackMs = await onAllNodes(back, (node, pod) => nodes[node]!.release(ownerOf(pod)))
  const held = nodes.reduce((sum, node) => sum + node.owners().length, 0)
  found.left = held - (count - back)
  for (const node of nodes) await node.close()
  for (const journal of journals) await journal.close()
  kube.close()
  await remove()
  return found
}

async function ofWhereabouts(place: Place, dir: string, count: number, back: number): Promise<Outcome> {
  const cni = await whereaboutsOf(place, dir, range)
  const ask = (command: Asked['command'], node: number, pod: number) =>
    cni({ command, node, pod: `pod-${pod}`, sandbox: `sandbox-${pod}` })
  const found = start()
  const cpu = cpuOfChildren()
  const before = await counts(place)
  found.ms = await onAllNodes(count, async (node, pod) => {
    const began = performance.now()
    try {
      const { ips } = JSON.parse(await ask('ADD', node, pod))
      found.times.push(performance.now() - began)
      found.addresses.push(ips[0].address)
    } catch (error) {
      found.failed.push((error as Error).message)
    }
  })
  const asked = spent(before, await counts(place))
  found.cpuMs = cpuOfChildren() - cpu
  found.requests = asked.own.whereabouts!
  found.conflicts = asked.conflicts
  found.giveBackMs = await onAllNodes(back, async (node, pod) => {
    await ask('DEL', node, pod).catch((error: Error) => found.failed.push(`DEL: ${error.message}`))
  })
  await sleep(500)
  found.left = (await allocationsOf(place, range)).length - (count - back)
  await forgetRange(place, range)
  return found
}

const start = (): Outcome => ({
  ms: 0,
  times: [],
  addresses: [],
  failed: [],
  cpuMs: 0,
  requests: 0,
  conflicts: 0,
  left: 0,
  giveBackMs: 0,
})

const range = '10.151.0.0/16'
