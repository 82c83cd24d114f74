import { connect as connectTo } from 'node:net'
import { join } from 'node:path'
import type { Traced } from '../agent/traces.ts'
import type { Pod } from '../api/core.ts'
import { resources } from '../api/resources.ts'
import type { Kube } from '../kube/port.ts'
import { Fault, isFault } from '../lib/fault.ts'
import { agents } from './agents.ts'

export interface TraceOptions {
  command: 'add' | 'del'
  namespace: string
  pod: string
  /** Where `run/polynet` is. */
  root: string
  output?: string
}

/**
 * The last ADD or DEL of the pod, as the agent of this node has it: a table
 * for people, or JSON. `kube` is asked where to look when it is not here.
 */
export async function traceOf(options: TraceOptions, kube: () => Promise<Kube>): Promise<string> {
  const { command, namespace, pod, root, output } = options
  if (output !== undefined && output !== 'json')
    throw new Fault('invalid', `print it as ${output}`, 'there is json')
  const all = await kept(join(root, 'run/polynet/trace.sock'))
  const found = all?.findLast(
    (trace) => trace.command === command.toUpperCase() && trace.namespace === namespace && trace.pod === pod,
  )
  if (!found) throw await elsewhere(options, all !== undefined, kube)
  return output === 'json' ? JSON.stringify(found, null, 2) : textOf(found)
}

/** What the agent of this node has; undefined where none answers. */
function kept(path: string): Promise<Traced[] | undefined> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connectTo(path)
    socket.setEncoding('utf8')
    socket.on('data', (chunk: string) => {
      text += chunk
    })
    socket.on('end', () => resolve(JSON.parse(text)))
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EACCES')
        reject(new Fault('forbidden', `ask the agent at ${path}`, 'only root may; try sudo', error))
      else resolve(undefined)
    })
  })
}

/** Why it is not here, and where it is. */
async function elsewhere(
  { command, namespace, pod: name }: TraceOptions,
  isAgentHere: boolean,
  connected: () => Promise<Kube>,
): Promise<Fault> {
  const doing = `trace the ${command.toUpperCase()} of pod ${namespace}/${name}`
  const here = isAgentHere ? 'the agent of this node has none' : 'no agent answers here'
  const fault = (why: string, cause?: unknown) => new Fault('missing', doing, why, cause)
  let kube: Kube
  let pod: Pod
  try {
    kube = await connected()
    pod = await kube.get(resources.pods, { namespace, name })
  } catch (error) {
    return isFault(error, 'missing')
      ? fault(`${here}, and there is no such pod; ask in the agent's pod of its node`)
      : fault(`${here}; ask in the agent's pod of its node`, error)
  }
  const node = pod.spec.nodeName
  if (node === undefined) return fault('the pod is on no node yet; see kubectl describe')
  const agent = node === process.env.NODE_NAME ? undefined : await agentOn(kube, node)
  const remedy = agent
    ? `kubectl -n ${agents.namespace} exec ${agent} -- polynet trace ${command} ${name} -n ${namespace}`
    : 'agents keep the last few hundred since they started'
  return fault(`${here}, and the pod is on node ${node}; ${remedy}`)
}

/** The name of the agent's pod on a node; undefined where it cannot be found. */
async function agentOn(kube: Kube, node: string): Promise<string | undefined> {
  const selection = { ...agents, fields: `spec.nodeName=${node}` }
  try {
    return (await kube.list(resources.pods, selection)).items[0]?.metadata.name
  } catch {
    return undefined
  }
}

/** A line for each step: when it was done, and how long after the one before. */
function textOf({ command, namespace, pod, asked, steps, ms, problem }: Traced): string {
  const how =
    ms === undefined
      ? 'is under way'
      : problem === undefined
        ? `was answered after ${ms.toFixed(1)} ms`
        : `failed after ${ms.toFixed(1)} ms: ${problem}`
  const last = ms === undefined ? [] : [{ ms, did: problem === undefined ? 'answered' : 'failed' }]
  const rows = [...steps, ...last].map((step, i, all) => [
    step.ms.toFixed(1),
    (step.ms - (all[i - 1]?.ms ?? 0)).toFixed(1),
    step.did,
  ])
  const lines = [['MS', 'TOOK', 'STEP'], ['0.0', '', 'asked'], ...rows]
  return [
    `${command} of pod ${namespace}/${pod}, asked at ${asked}, ${how}`,
    '',
    ...lines.map(([at = '', took = '', step]) => `${at.padEnd(8)} ${took.padEnd(8)} ${step}`),
  ].join('\n')
}
