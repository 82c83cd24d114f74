import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type AddressCluster, addressCluster, ownerOf } from '../src/agent/addresses/cluster.ts'
import { openJournal } from '../src/agent/journal/file.ts'
import { intervalOf } from '../src/ipam/interval.ts'
import { addBlock, emptyStock, rest, take } from '../src/ipam/stock.ts'
import { parsePrefix } from '../src/lib/ip.ts'
import type { Figures } from './figures.ts'

/** What leasing an address costs: in the pure allocator, made durable, and for a thousand pods on ten nodes. */
export async function addresses({ small }: { small: boolean }): Promise<Figures[]> {
  return [
    allocator(small ? 5_000 : 200_000),
    await durable(small ? 50 : 2_000),
    await thousandPods(small ? 50 : 1_000),
  ]
}

/** Leases and releases out of a block of 65,536 addresses that is mostly in use, at `count` pods. */
function allocator(count: number): Figures {
  const prefix = parsePrefix('10.1.0.0/16')!
  const stock = emptyStock()
  addBlock(stock, 'block', prefix, [intervalOf(prefix)], { now: 0 })
  const held = Array.from({ length: 60_000 }, (_, i) => take(stock, 4, `pod-${i}`, 0)!)
  const began = performance.now()
  for (let i = 0; i < count; i++) {
    rest(stock, held[i % held.length]!, i + 1000)
    held[i % held.length] = take(stock, 4, `pod-${i}`, i)!
  }
  const ms = performance.now() - began
  return {
    title: 'The allocator: lease and release, 60,000 of 65,536 addresses held',
    columns: ['pairs', 'ms', 'pairs a second'],
    rows: [[count, ms, (count / ms) * 1000]],
  }
}

/** Changes of the journal on this machine's disk, one after another and 100 at once. */
async function durable(count: number): Promise<Figures> {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-bench-'))
  const rows: Figures['rows'] = []
  for (const fsync of [true, false])
    for (const together of [1, 100]) {
      const journal = await openJournal(join(dir, `${fsync}-${together}`), { fsync })
      const began = performance.now()
      for (let i = 0; i < count; i += together)
        await Promise.all(
          Array.from({ length: together }, (_, j) =>
            journal.put(`lease/${(i + j) % 250}`, { ips: ['10.1.0.7/16'] }),
          ),
        )
      const ms = performance.now() - began
      rows.push([fsync ? 'yes' : 'no', together, (ms / count) * 1000, (count / ms) * 1000])
      await journal.close()
    }
  rmSync(dir, { recursive: true })
  return {
    title: 'The journal: changes made durable',
    columns: ['fdatasync', 'at once', 'µs each', 'a second'],
    rows,
  }
}

/** The test that other address managers publish: pods all at once, on 10 nodes, on one network. */
async function thousandPods(pods: number): Promise<Figures> {
  const cases: [title: string, subnet: string, blockSize?: number][] = [
    ['blocks of 64, ample', '10.1.0.0/16'],
    ['blocks of 4, ample', '10.1.0.0/16', 30],
    ['one by one, ample', '10.1.0.0/16', 32],
    ['one by one, as many as pods', '10.1.0.0/22', 32],
  ]
  const rows: Figures['rows'] = []
  for (const [title, cidr, ipv4] of cases) {
    const c = await addressCluster()
    const spec = { subnets: [{ cidr }], ...(ipv4 ? { blockSize: { ipv4 } } : {}) }
    const network = await c.network('blue', spec)
    const nodes = Array.from({ length: 10 }, (_, i) => c.start(`n${i}`))
    const began = performance.now()
    const leases = await Promise.all(
      Array.from({ length: pods }, (_, i) => nodes[i % 10]!.lease({ network, owner: ownerOf(`p${i}`) })),
    )
    const ms = performance.now() - began
    const distinct = new Set(leases.map((l) => l.addresses[0]?.address)).size
    rows.push([title, distinct, ms, (ms / pods) * 1000, c.requests.length, requestsOf(c)])
  }
  return {
    title: `${pods} pods at once on 10 nodes`,
    columns: ['subnet', 'addresses', 'ms', 'µs a pod', 'API requests', 'of these'],
    rows,
    notes: ['The API server and the journals are in memory: what is measured is the allocation itself.'],
  }
}

function requestsOf({ requests }: AddressCluster): string {
  const counts = Map.groupBy(requests, (request) => request.split(' ')[0])
  return [...counts].map(([verb, list]) => `${list.length} ${verb}`).join(', ')
}
