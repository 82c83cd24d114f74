import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { everyProcess } from '../../cluster/processes.ts'
import { createNamespace, inside, removeNamespace } from '../../src/datapath/linux/netns.ts'
import { spawn } from '../../src/lib/spawn.ts'
import { cpuOfChildren } from '../cpu.ts'
import type { Answer, Held, Plugin as Other, Question } from './node-runtime.ts'
import { cpuOfGroup, named } from './processes.ts'

/**
 * A node's container runtime, as far as CNI goes: executes what the first
 * conf in the node's directory says, as containerd does. A line on stdin is
 * a question, a line on stdout its answer. `runtime.ts <JSON list of
 * words of daemons' command lines> [hurried]`: whose processor time is counted
 * too, and whether their work beside an answer is waited for.
 */
const words: string[] = JSON.parse(process.argv[2]!)
const hurried = process.argv[3] === 'hurried'
const confDir = '/etc/cni/net.d'
const binDir = '/opt/cni/bin'
/** How long daemons may go on with what follows from an answer: Polynet writes slices a second later. */
const settleMs = hurried ? 0 : 1500

interface Plugin {
  type: string
  capabilities?: Record<string, boolean>
}

/** What the node's first conf is, or one that the question brings. */
interface Conf {
  name: string
  cniVersion: string
  plugins: Plugin[]
}

/** As libcni takes it: the first file by name, one plugin being a list of one. */
function firstConf(): Conf {
  const [file] = readdirSync(confDir)
    .filter((name) => /\.(conf|conflist|json)$/.test(name))
    .sort()
  const conf = JSON.parse(readFileSync(join(confDir, file!), 'utf8'))
  return { cniVersion: conf.cniVersion, name: conf.name, plugins: conf.plugins ?? [conf] }
}

const alone = ({ conf }: Other): Conf => ({ name: conf.name, cniVersion: conf.cniVersion, plugins: [conf] })

const netnsOf = ({ name, sandbox = name }: Held): string => `/run/netns/${sandbox}`
const results = new Map<string, unknown>()

async function attachment(
  command: 'ADD' | 'DEL',
  pod: Held,
  { name, cniVersion, plugins }: Conf,
  interfaceName: string,
): Promise<void> {
  const { sandbox = pod.name } = pod
  for (const plugin of command === 'ADD' ? plugins : plugins.toReversed()) {
    const prevResult = results.get(pod.name)
    const stdin = { ...plugin, name, cniVersion, ...(prevResult !== undefined && { prevResult }) }
    const env = {
      PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin',
      CNI_COMMAND: command,
      CNI_PATH: binDir,
      CNI_CONTAINERID: sandbox,
      CNI_NETNS: netnsOf(pod),
      CNI_IFNAME: interfaceName,
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${pod.namespace};K8S_POD_NAME=${pod.name};K8S_POD_INFRA_CONTAINER_ID=${sandbox};K8S_POD_UID=${pod.uid}`,
    }
    const path = join(binDir, plugin.type)
    const ended = await spawn(path, [path], env, Buffer.from(JSON.stringify(stdin)), { timeoutMs: 240_000 })
    if (ended.code !== 0)
      throw new Error(`${plugin.type}: ${ended.code ?? ended.signal} ${ended.stdout}${ended.stderr}`)
    if (command === 'ADD') results.set(pod.name, JSON.parse(ended.stdout.toString()))
  }
  if (command === 'DEL') results.delete(pod.name)
}

/** How many the pod has, beside its loopback. */
const interfacesOf = (pod: Held): number =>
  inside(
    netnsOf(pod),
    () => readFileSync('/proc/thread-self/net/dev', 'latin1').trim().split('\n').length - 3,
  )

/** The first IPv4 address of each of its interfaces. */
const addressesOf = (pod: Held): Record<string, string> =>
  inside(netnsOf(pod), () =>
    Object.fromEntries(
      Object.entries(networkInterfaces()).flatMap(([name, all]) => {
        const found = all?.find(({ family, internal }) => family === 'IPv4' && !internal)
        return found ? [[name, found.address]] : []
      }),
    ),
  )

const nowUs = (): number => Number(process.hrtime.bigint() / 1000n)

const pidOf = (word: string): number => {
  const [pid] = named(everyProcess(), word)
  if (pid === undefined) throw new Error(`${word} does not run on this node`)
  return pid
}
const daemons = words.map((word) => ({ word, pid: pidOf(word) }))

/** Of everything executed, and of the daemons; one that was started anew begins at its own beginning. */
const cpu = (): number => cpuOfChildren() + daemons.reduce((sum, daemon) => sum + cpuOfDaemon(daemon), 0)

function cpuOfDaemon(daemon: { word: string; pid: number }): number {
  if (!existsSync(`/proc/${daemon.pid}`)) daemon.pid = named(everyProcess(), daemon.word)[0] ?? 0
  return daemon.pid === 0 ? 0 : cpuOfGroup(daemon.pid)
}

/** What the daemons take when nothing is asked of them, a millisecond. */
let idle = await idleShare()

async function idleShare(): Promise<number> {
  const [before, began] = [cpu(), performance.now()]
  await sleep(hurried ? 100 : 3000)
  return (cpu() - before) / (performance.now() - began)
}

async function answer({ command, pods, atOnce, hasty, by }: Question): Promise<Answer> {
  if (command === 'make') for (const pod of pods) createNamespace(netnsOf(pod))
  if (command === 'rest') idle = await idleShare()
  if (command === 'remove') for (const pod of pods) removeNamespace(netnsOf(pod))
  const addresses: Answer['addresses'] = {}
  if (command === 'look') for (const pod of pods) addresses[pod.name] = addressesOf(pod)
  if (command !== 'ADD' && command !== 'DEL')
    return { times: [], failed: [], ms: 0, cpu: 0, addresses, atUs: nowUs() }
  const conf = by ? alone(by) : firstConf()
  const times: number[] = []
  const failed: string[] = []
  let atUs = 0
  const left = [...pods]
  const work = async () => {
    for (let pod = left.shift(); pod; pod = left.shift()) {
      const began = performance.now()
      try {
        await attachment(command, pod, conf, by?.interface ?? 'eth0')
        times.push(performance.now() - began)
        atUs = nowUs()
        if (command === 'ADD' && hasty) addresses[pod.name] = addressesOf(pod)
        if (command === 'ADD' && !by && interfacesOf(pod) !== pod.networks)
          failed.push(
            `${pod.name}: it has ${interfacesOf(pod)} of ${pod.networks} interfaces by ${conf.name}`,
          )
      } catch (error) {
        failed.push(`${pod.name}: ${(error as Error).message.slice(0, 500)}`)
      }
    }
  }
  const before = cpu()
  const began = performance.now()
  await Promise.all(Array.from({ length: atOnce }, work))
  const ms = performance.now() - began
  if (!hasty) await sleep(settleMs)
  const spent = cpu() - before - idle * (performance.now() - began)
  return { times, failed, ms, cpu: spent, addresses, atUs }
}

process.stdout.write('ready\n')
for await (const line of createInterface({ input: process.stdin }))
  try {
    process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`)
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ error: String(error) })}\n`)
  }
