import { createInterface } from 'node:readline'
import { nodeAddresses } from '../../src/agent/addresses/addresses.ts'
import { openJournal } from '../../src/agent/journal/file.ts'
import type { Network } from '../../src/api/network.ts'
import { connect } from '../../src/kube/cluster/connect.ts'
import { realClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'

/** What one node's agent is of Polynet as far as addresses go, as a process that can be killed: `allocator.ts <JSON of AllocatorOptions>`. */
export interface AllocatorOptions {
  kubeconfig: string
  journal: string
  node: { name: string; uid: string }
  network: Network
}

export interface Question {
  command: 'ADD' | 'DEL'
  pod: string
  sandbox: string
}

export interface Answer {
  address?: string
  error?: string
}

const { kubeconfig, journal: path, node, network }: AllocatorOptions = JSON.parse(process.argv[2]!)
const kube = await connect(kubeconfig)
const journal = await openJournal(path, { fsync: false })
const deps = { kube, journal, node, clock: realClock, log: silentLog, restMs: 0 }
const addresses = nodeAddresses(deps)

async function answer({ command, pod, sandbox }: Question): Promise<Answer> {
  const owner = { podUID: `uid-${pod}`, containerID: sandbox, interface: 'net1', pod: `bench/${pod}` }
  try {
    if (command === 'DEL') return { address: await addresses.release(owner).then(() => '') }
    return { address: (await addresses.lease({ network, owner })).addresses[0]!.address }
  } catch (error) {
    return { error: (error as Error).message }
  }
}

process.stdout.write('ready\n')
for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`)
await addresses.close()
await journal.close()
process.exit(0)
