import { writeFileSync } from 'node:fs'
import { Cluster, type Size } from './cluster.ts'

/** What a cluster of one size takes, in a process of its own: `scale-one.ts <size> <file>`. */
export interface Scaled {
  size: Size
  /** Of everything, API server and controller included. */
  residentMiB: number
  /** Till every agent was ready; till every pod was attached; till every kernel followed. */
  startS: number
  attachS: number
  convergeS: number
  /** CPU of the process till then, which other processes on the machine change less than the time. */
  cpuS: number
  /** By agents, from the first pod to the last: all, and those that are no watch or list. */
  requests: Record<string, number>
  /** From a network's new subnet to the last node's plan; and how many nodes made one. */
  changeMs: number
  changed: number
}

const [sizeText = '{}', path = ''] = process.argv.slice(2)
const size = JSON.parse(sizeText) as Size
const seconds = (from: number, to = performance.now()) => (to - from) / 1000

const cluster = new Cluster(size)
let begun = performance.now()
await cluster.start()
const startS = seconds(begun)
cluster.requests.clear()

begun = performance.now()
const all = cluster.pods().reverse()
const pods = all.length
/** Not by a timer: a process as busy as this seldom gets to those. */
let toldAt = begun
const tell = () => {
  if (seconds(toldAt) < 10) return
  toldAt = performance.now()
  const done = pods - all.length
  console.error(`${size.nodes} nodes: ${done} of ${pods} pods, ${seconds(begun).toFixed(0)} s`)
}
const work = async () => {
  for (let next = all.pop(); next; next = all.pop()) {
    await cluster.addPod(next.node, next.network, `p${next.node}-${next.pod}`)
    tell()
  }
}
await Promise.all(Array.from({ length: 64 }, work))
const attachS = seconds(begun)
const convergeS = seconds(begun, await cluster.quiet())
const cpu = process.cpuUsage()
const cpuS = (cpu.user + cpu.system) / 1e6
const requests = Object.fromEntries(cluster.requests)

const replaces = cluster.replaces
begun = performance.now()
await cluster.widen(cluster.networkOf(0, 0))
const changeMs = (await cluster.quiet()) - begun

globalThis.gc?.()
const scaled: Scaled = {
  size,
  residentMiB: process.memoryUsage.rss() / 2 ** 20,
  startS,
  attachS,
  convergeS,
  cpuS,
  requests,
  changeMs,
  changed: cluster.replaces - replaces,
}
writeFileSync(path, JSON.stringify(scaled))
process.exit(0)
