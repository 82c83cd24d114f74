import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { holdingsOf } from '../../src/agent/addresses/addresses.ts'
import { openJournal } from '../../src/agent/journal/file.ts'
import type { AddressBlock } from '../../src/api/address-block.ts'
import { resources } from '../../src/api/resources.ts'
import { consistency } from '../../src/ipam/consistency.ts'
import { type Figures, median, quantile } from '../figures.ts'
import { allocatorAccount, kubeconfigFor } from './accounts.ts'
import type { AllocatorOptions, Answer, Question } from './allocator.ts'
import type { Place } from './place.ts'
import { countAccounts, counts, spent } from './requests.ts'
import type { Size } from './rows.ts'
import { makeNodes, nodeCount, nodeName, onAllNodes } from './scale-nodes.ts'
import { Talk } from './talk.ts'
import { allocationsOf, forgetRange, reservedOf, whereaboutsOf } from './whereabouts.ts'

/** Of so many ADDs one is killed on its way. */
const killedOf = 10
/** How often the runtime tries a pod before it is given up here; kubelet never does. */
const tries = 20

interface Outcome {
  ms: number
  times: number[]
  /** Allocators that were killed, and of these before they answered. */
  kills: number
  unanswered: number
  failed: string[]
  /** By pod: who has which address, as the runtime was told. */
  told: Map<string, { sandbox: string; address: string }>
  /** What is kept of it afterwards: addresses and the sandboxes that have them. */
  kept: [address: string, sandbox: string][]
  /** What else contradicts itself, a sentence each. */
  problems: string[]
  requests: number
  conflicts: number
}

/** One node's allocator. */
interface Allocator {
  /** Resolves with the address; rejects when it failed, or with `Killed` when it was killed after `killAfterMs` and had not answered. */
  add(pod: string, sandbox: string, killAfterMs: number | undefined, whenKilled: () => void): Promise<string>
  del(pod: string, sandbox: string): Promise<void>
}

/** Addresses while allocators are killed at random, and whether all of it is right then. */
export async function killed(place: Place, size: Size): Promise<Figures[]> {
  await countAccounts(place)
  const count = size({ small: 30, full: 400 })
  const limitMs = size({ small: 120_000, full: 180_000 })
  const dir = mkdtempSync(join(place.dir, 'killed-'))
  const sides: [string, Outcome][] = [
    ['Polynet', await ofPolynet(place, dir, count, limitMs)],
    ['Whereabouts', await ofWhereabouts(place, dir, count, limitMs)],
  ]
  return [
    {
      title: `${count} addresses for the pods of ${nodeCount} nodes, one ADD of ${killedOf} killed with SIGKILL at a random moment`,
      columns: [
        ...[
          'by',
          'addresses',
          's',
          'a second',
          'ms median',
          'ms p95',
          'killed',
          '… before its answer',
          'failed otherwise',
        ],
        ...['doubled', 'lost', 'leaked', 'other contradictions', 'API requests', 'conflicts'],
      ],
      rows: sides.map(([title, o]) => {
        const has = new Map([...o.told.values()].map(({ sandbox, address }) => [sandbox, address]))
        const kept = new Map(o.kept.map(([address, sandbox]) => [sandbox, address]))
        return [
          title,
          has.size,
          o.ms / 1000,
          has.size / (o.ms / 1000),
          quantile(o.times, 0.5),
          quantile(o.times, 0.95),
          o.kills,
          o.unanswered,
          o.failed.length,
          has.size - new Set(has.values()).size,
          [...has].filter(([sandbox, address]) => kept.get(sandbox) !== address).length,
          o.kept.filter(([, sandbox]) => !has.has(sandbox)).length,
          o.problems.length,
          o.requests,
          o.conflicts,
        ]
      }),
      notes: [
        'As kubelet does, a killed or failed ADD is followed by a DEL of its sandbox and an ADD of another one. Killed in Polynet is the whole allocator of',
        'the node, a process with its journal, which is started again (in s, not in ms); in Whereabouts the plugin, which is executed for each address. Polynet’s',
        'blocks are of 8 addresses here, an eighth of what they are by default, so that requests are met too. doubled: two pods were told the same.',
        'lost: told, but not kept. leaked: kept for a sandbox that is gone; other contradictions: overlapping blocks, reservations of nothing and the like.',
        ...sides.flatMap(([title, { failed, problems, told }]) => [
          ...(told.size < count
            ? [`${title} was stopped after ${limitMs / 1000} s with ${told.size} of ${count}.`]
            : []),
          ...(failed[0] ? [`${title}, first failure: ${failed[0]}`] : []),
          ...(problems[0] ? [`${title}, first contradiction: ${problems[0]}`] : []),
        ]),
      ],
    },
  ]
}

/** Attaches all pods, and kills on the way. */
async function attachAll(count: number, limitMs: number, on: (node: number) => Allocator): Promise<Outcome> {
  const found: Outcome = {
    ms: 0,
    times: [],
    kills: 0,
    unanswered: 0,
    failed: [],
    told: new Map(),
    kept: [],
    problems: [],
    requests: 0,
    conflicts: 0,
  }
  const end = performance.now() + limitMs
  found.ms = await onAllNodes(count, async (node, number) => {
    const allocator = on(node)
    const pod = `pod-${number}`
    for (let attempt = 0; attempt < tries && performance.now() < end; attempt++) {
      const sandbox = `sandbox-${number}-${attempt}`
      const kill = Math.random() < 1 / killedOf
      // Anywhere in the time that an ADD takes here.
      const killAfterMs = kill ? Math.ceil(Math.random() * (median(found.times) || 100)) : undefined
      const began = performance.now()
      try {
        const address = await allocator.add(pod, sandbox, killAfterMs, () => found.kills++)
        found.times.push(performance.now() - began)
        found.told.set(pod, { sandbox, address })
        return
      } catch (error) {
        if (error instanceof Killed) found.unanswered++
        else found.failed.push((error as Error).message)
        await allocator
          .del(pod, sandbox)
          .catch((problem: Error) => found.failed.push(`DEL: ${problem.message}`))
      }
    }
  })
  return found
}

class Killed extends Error {}

async function ofPolynet(place: Place, dir: string, count: number, limitMs: number): Promise<Outcome> {
  const kubeconfig = await kubeconfigFor(place, dir, await allocatorAccount(place))
  const subnets = [{ cidr: '10.152.0.0/16' }]
  const { network, uids, remove } = await makeNodes(place, 'killed', { subnets, blockSize: { ipv4: 29 } })
  const journalOf = (node: number) => join(dir, nodeName(node))
  const processes = uids.map((uid, node) => {
    const options: AllocatorOptions = {
      kubeconfig,
      journal: journalOf(node),
      node: { name: nodeName(node), uid },
      network,
    }
    return new Process(options)
  })
  try {
    await Promise.all(processes.map((each) => each.start()))
    const before = await counts(place)
    const found = await attachAll(count, limitMs, (node) => processes[node]!)
    const asked = spent(before, await counts(place))
    await Promise.all(processes.map((each) => each.end()))
    const journals = []
    for (let node = 0; node < nodeCount; node++) {
      const journal = await openJournal(journalOf(node), { fsync: false })
      journals.push(holdingsOf(journal.entries()))
      await journal.close()
    }
    const { items } = await place.kube.list(resources.addressBlocks, {
      namespace: network.metadata.namespace,
    })
    const blocks = items.filter(({ spec }) => spec.networkUID === network.metadata.uid)
    return {
      ...found,
      kept: journals.flatMap(({ leases }) =>
        leases.flatMap(({ owner, addresses }) =>
          addresses.map(({ address }): [string, string] => [address, owner.containerID]),
        ),
      ),
      problems: [...consistency(blocks, journals), ...unknownBlocks(blocks, journals)],
      requests: asked.own.allocator!,
      conflicts: asked.conflicts,
    }
  } finally {
    await Promise.all(processes.map((each) => each.end()))
    await remove()
  }
}

/** Blocks that are a node's, and that it does not know of. */
const unknownBlocks = (blocks: AddressBlock[], journals: ReturnType<typeof holdingsOf>[]): string[] =>
  blocks
    .filter(({ metadata }) => !journals.some((journal) => journal.blocks.has(metadata.name)))
    .map(({ spec }) => `block ${spec.cidr} is leased to node ${spec.node}, which does not know of it`)

/** Polynet's allocator of a node; one that was killed is started again, as kubelet would. */
class Process implements Allocator {
  readonly #options: AllocatorOptions
  #talk: Talk | undefined

  constructor(options: AllocatorOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    this.#talk = new Talk([
      process.execPath,
      join(import.meta.dirname, 'allocator.ts'),
      JSON.stringify(this.#options),
    ])
    await this.#talk.line()
  }

  async add(
    pod: string,
    sandbox: string,
    killAfterMs: number | undefined,
    whenKilled: () => void,
  ): Promise<string> {
    if (killAfterMs === undefined) return this.#ask({ command: 'ADD', pod, sandbox })
    const dying = sleep(killAfterMs).then(() => this.#talk!.kill())
    const answer = this.#ask({ command: 'ADD', pod, sandbox }).then(
      (address) => ({ address }),
      () => undefined,
    )
    const told = await answer
    await dying
    whenKilled()
    await this.start()
    if (told) return told.address
    throw new Killed()
  }

  async del(pod: string, sandbox: string): Promise<void> {
    await this.#ask({ command: 'DEL', pod, sandbox })
  }

  async end(): Promise<void> {
    await this.#talk?.close()
  }

  async #ask(question: Question): Promise<string> {
    const { address, error }: Answer = JSON.parse(await this.#talk!.ask(JSON.stringify(question)))
    if (error !== undefined) throw new Error(error)
    return address ?? ''
  }
}

const range = '10.153.0.0/16'

async function ofWhereabouts(place: Place, dir: string, count: number, limitMs: number): Promise<Outcome> {
  const cni = await whereaboutsOf(place, dir, range)
  const on = (node: number): Allocator => ({
    async add(pod, sandbox, killAfterMs, whenKilled) {
      const asked = { command: 'ADD', node, pod, sandbox } as const
      const answer = await cni(asked, killAfterMs).catch((error: Error) => {
        if (killAfterMs === undefined || !error.message.startsWith('SIGKILL')) throw error
        whenKilled()
        throw new Killed()
      })
      return JSON.parse(answer).ips[0].address
    },
    async del(pod, sandbox) {
      await cni({ command: 'DEL', node, pod, sandbox })
    },
  })
  try {
    const before = await counts(place)
    const found = await attachAll(count, limitMs, on)
    const asked = spent(before, await counts(place))
    const kept = await allocationsOf(place, range)
    const held = new Set(kept.map(([address]) => address))
    return {
      ...found,
      kept: kept.map(([address, sandbox]): [string, string] => [`${address}/16`, sandbox]),
      problems: (await reservedOf(place, range))
        .filter((address) => !held.has(address))
        .map((address) => `${address} is reserved over all ranges, and allocated to nobody`),
      requests: asked.own.whereabouts!,
      conflicts: asked.conflicts,
    }
  } finally {
    await forgetRange(place, range)
  }
}
