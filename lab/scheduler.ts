import type { Node, Pod } from '../src/api/core.ts'

/** Where a pod goes, or why it goes nowhere: as kube-scheduler words it. */
export type Placement = { node: string } | { unschedulable: string }

/**
 * The node for `pod`: of those that it fits, the one with the fewest pods, and
 * of those the first by name. Looks at what a pod says about nodes (selector,
 * required affinity, tolerations, requests) and at nothing else.
 *
 * `pods` are all pods of the cluster; what has ended takes no room.
 */
export function placementFor(pod: Pod, nodes: Node[], pods: Pod[]): Placement {
  const on = new Map<string, Pod[]>()
  for (const other of pods) {
    const node = other.spec.nodeName
    if (node === undefined || ended(other)) continue
    on.set(node, [...(on.get(node) ?? []), other])
  }
  const refusals = new Map<string, number>()
  let best: { name: string; load: number } | undefined
  for (const node of [...nodes].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))) {
    const there = on.get(node.metadata.name) ?? []
    const why = refusal(pod, node, there)
    if (why !== undefined) refusals.set(why, (refusals.get(why) ?? 0) + 1)
    else if (!best || there.length < best.load) best = { name: node.metadata.name, load: there.length }
  }
  if (best) return { node: best.name }
  const reasons = [...refusals].map(([why, count]) => `${count} ${why}`).sort()
  return {
    unschedulable: `0/${nodes.length} nodes are available${reasons.length > 0 ? `: ${reasons.join(', ')}` : ''}.`,
  }
}

export const ended = (pod: Pod): boolean =>
  pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed'

function refusal(pod: Pod, node: Node, there: Pod[]): string | undefined {
  if (node.spec?.unschedulable && !tolerates(pod, unschedulableTaint)) return 'node(s) were unschedulable'
  const ready = node.status?.conditions?.find((c) => c.type === 'Ready')
  if (ready && ready.status !== 'True') return 'node(s) were not ready'
  const taint = node.spec?.taints?.find((t) => t.effect !== 'PreferNoSchedule' && !tolerates(pod, t))
  if (taint) return `node(s) had untolerated taint {${taint.key}${taint.value ? `: ${taint.value}` : ''}}`
  if (!selects(pod, node)) return "node(s) didn't match Pod's node affinity/selector"
  for (const [name, wanted] of requestsOf(pod)) {
    const allocatable = node.status?.allocatable?.[name]
    const taken = there.reduce((sum, other) => sum + (requestsOf(other).get(name) ?? 0), 0)
    if (taken + wanted > quantity(allocatable ?? '0')) return `Insufficient ${name}`
  }
  const room = node.status?.allocatable?.pods
  return room !== undefined && there.length >= quantity(room) ? 'Too many pods' : undefined
}

const unschedulableTaint = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' }

function tolerates(pod: Pod, taint: { key: string; value?: string; effect: string }): boolean {
  return (pod.spec.tolerations ?? []).some((t) => {
    if (t.effect && t.effect !== taint.effect) return false
    if (t.operator === 'Exists') return !t.key || t.key === taint.key
    return t.key === taint.key && (t.value ?? '') === (taint.value ?? '')
  })
}

type Expression = { key: string; operator: string; values?: string[] }
interface NodeSelectorTerm {
  matchExpressions?: Expression[]
  matchFields?: Expression[]
}

function selects(pod: Pod, node: Node): boolean {
  const labels = node.metadata.labels ?? {}
  for (const [key, value] of Object.entries(pod.spec.nodeSelector ?? {}))
    if (labels[key] !== value) return false
  const affinity = pod.spec.affinity as
    | {
        nodeAffinity?: {
          requiredDuringSchedulingIgnoredDuringExecution?: { nodeSelectorTerms?: NodeSelectorTerm[] }
        }
      }
    | undefined
  const required = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
  if (!required) return true
  return (required.nodeSelectorTerms ?? []).some((term) => {
    const onLabels = term.matchExpressions ?? []
    const onFields = term.matchFields ?? []
    // An empty term selects nothing (core/v1 NodeSelectorTerm).
    if (onLabels.length + onFields.length === 0) return false
    return (
      onLabels.every((e) => matches(e, labels[e.key])) &&
      onFields.every((e) => matches(e, e.key === 'metadata.name' ? node.metadata.name : undefined))
    )
  })
}

function matches({ operator, values = [] }: Expression, have: string | undefined): boolean {
  switch (operator) {
    case 'In':
      return have !== undefined && values.includes(have)
    case 'NotIn':
      return have === undefined || !values.includes(have)
    case 'Exists':
      return have !== undefined
    case 'DoesNotExist':
      return have === undefined
    case 'Gt':
      return Number(have) > Number(values[0])
    case 'Lt':
      return Number(have) < Number(values[0])
    default:
      return false
  }
}

/** What the pod's containers request together; an init container runs alone, so the larger of both counts. */
function requestsOf(pod: Pod): Map<string, number> {
  const sum = new Map<string, number>()
  for (const container of pod.spec.containers)
    for (const [name, amount] of requests(container)) sum.set(name, (sum.get(name) ?? 0) + amount)
  for (const container of pod.spec.initContainers ?? [])
    for (const [name, amount] of requests(container)) sum.set(name, Math.max(sum.get(name) ?? 0, amount))
  return sum
}

/** For extended resources a limit is a request. */
const requests = (container: Pod['spec']['containers'][number]): [string, number][] =>
  Object.entries({ ...container.resources?.limits, ...container.resources?.requests })
    .map(([name, text]): [string, number] => [name, quantity(text)])
    .filter(([, amount]) => amount > 0)

const units: Record<string, number> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
}

/** `500m`, `64Mi`, `1e3`, `2` (apimachinery resource.Quantity); what is none counts as nothing. */
function quantity(text: string | number): number {
  const [, number, unit] = /^([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]{0,2})$/.exec(String(text)) ?? []
  const factor = unit ? units[unit] : 1
  return number === undefined || factor === undefined ? 0 : Number(number) * factor
}
