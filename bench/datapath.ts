import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { blue, flat, home, nicAddress, plan, port, red } from '../src/datapath/conformance-plan.ts'
import { linuxDatapath } from '../src/datapath/linux/linux.ts'
import { applyNamespaces } from '../src/datapath/linux/namespaces.ts'
import { createNamespace, removeNamespace } from '../src/datapath/linux/netns.ts'
import { emptyNamespace } from '../src/plan/node-plan.ts'

/**
 * What an attachment and a detachment cost on this kernel, without the runtime
 * and the shim. It takes root, at least in a user namespace: `unshare -Urnm`.
 */
const rounds = Number(process.argv[2] ?? 60)
const dir = mkdtempSync(join(tmpdir(), 'polynet-bench-'))
const host = join(dir, 'host')
const made = [host, join(dir, 'wire')]
for (const path of made) createNamespace(path)
applyNamespaces(
  [
    {
      ...emptyNamespace('host'),
      links: ['eth1', 'eth2'].map((name) => ({
        kind: 'veth',
        name,
        mtu: 1500,
        peer: { netns: 'wire', name },
      })),
      addresses: (['eth1', 'eth2'] as const).map((link) => ({
        link,
        address: `${nicAddress('n1', link)}/24`,
      })),
    },
  ],
  { host, wire: join(dir, 'wire') },
)
const datapath = await linuxDatapath({ runDir: dir, hostNetns: host })
const networks = [blue, red, flat, home]
await datapath.replace(plan('n1', networks))

const pod = (name: string): string => {
  const path = join(dir, name)
  createNamespace(path)
  made.push(path)
  return path
}
const measured = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now()
  await work()
  return performance.now() - start
}
const row = (name: string, times: number[]): void => {
  const sorted = [...times].sort((a, b) => a - b)
  const at = (share: number) => (sorted[Math.floor(share * (sorted.length - 1))] ?? 0).toFixed(2).padStart(8)
  console.log(`${name.padEnd(34)}${at(0.5)}${at(0.95)}${at(0)}`)
}

try {
  console.log(`${'ms'.padEnd(34)}  median     p95     min`)
  const times: Record<string, number[]> = { one: [], four: [], away: [], again: [] }
  const ports = Array.from({ length: rounds }, (_, n) => {
    const one = [port(blue, 'n1', 2 * n + 1, pod(`one${n}`))]
    const path = pod(`four${n}`)
    const four = networks.map((network, i) => port(network, 'n1', 2 * n + 2, path, `eth${i}`))
    return { one, four }
  })
  for (const { one, four } of ports) {
    times.one!.push(await measured(() => datapath.attach(one)))
    times.four!.push(await measured(() => datapath.attach(four)))
  }
  row('attach, 1 port', times.one!)
  row('attach, 4 ports', times.four!)
  const all = plan(
    'n1',
    networks,
    ports.flatMap(({ one, four }) => [...one, ...four]),
  )
  for (let i = 0; i < 3; i++) times.again!.push(await measured(() => datapath.replace(all)))
  row(`replace, ${all.ports.length} ports, nothing to do`, times.again!)
  for (const { one } of ports.slice(0, 10)) times.away!.push(await measured(() => datapath.detach(one)))
  row('detach, 1 port', times.away!)
  for (const { four } of ports) await datapath.detach(four)
  const many = Array.from({ length: 200 }, (_, n) => port(blue, 'n1', (n % 250) + 1, pod(`many${n}`), 'eth0'))
  for (const { one } of ports.slice(10)) await datapath.detach(one)
  row('attach, 200 pods, one call each', [
    await measured(() => Promise.all(many.map((one) => datapath.attach([one])))),
  ])
  row('detach, 200 pods, one call each', [
    await measured(() => Promise.all(many.map((one) => datapath.detach([one])))),
  ])
} finally {
  await datapath.close()
  for (const name of readdirSync(join(dir, 'netns'))) removeNamespace(join(dir, 'netns', name))
  for (const path of made) removeNamespace(path)
  rmSync(dir, { recursive: true, force: true })
}
