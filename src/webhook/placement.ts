import type { Container, Pod } from '../api/core.ts'
import type { Network } from '../api/network.ts'
import { nicResource, wireLabel } from '../api/node-reach.ts'
import { isLabelKey } from '../lib/selector.ts'

interface Expression {
  key: string
  operator: string
  values?: string[]
}

interface Term {
  matchExpressions?: Expression[]
  matchFields?: Expression[]
}

interface Affinity {
  nodeAffinity?: { requiredDuringSchedulingIgnoredDuringExecution?: { nodeSelectorTerms?: Term[] } }
}

/**
 * Pure: the pod, kept to nodes that reach the physical networks of its
 * Networks, with a NIC of its own for each that takes one from the node, and
 * with a device for each of `resources`. The same pod where that says nothing
 * new, or where its node is chosen.
 */
export function confined(pod: Pod, networks: readonly Network[], resources: readonly string[] = []): Pod {
  if (pod.spec.nodeName) return pod
  const wires = new Set<string>()
  const nics = new Map<string, number>()
  for (const name of resources.filter(isExtended)) nics.set(name, (nics.get(name) ?? 0) + 1)
  for (const { spec } of networks) {
    const wire = spec.physicalNetwork
    if (wire === undefined || !isLabelKey(wireLabel(wire))) continue
    wires.add(wire)
    if (spec.topology === 'Direct' && spec.direct?.mode === 'host-device')
      nics.set(nicResource(wire), (nics.get(nicResource(wire)) ?? 0) + 1)
  }
  return withDevices(withWires(pod, [...wires].sort()), nics)
}

/** Of device plugins; the API server takes no other that is not its own. */
const isExtended = (name: string): boolean =>
  isLabelKey(name) && name.includes('/') && !/(^|\.)kubernetes\.io\//.test(name)

/** An affinity's terms are alternatives, so each of them has to ask for the wires. */
function withWires(pod: Pod, wires: readonly string[]): Pod {
  if (wires.length === 0) return pod
  const affinity = (pod.spec.affinity ?? {}) as Affinity
  const required = affinity.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
  const terms = required ? (required.nodeSelectorTerms ?? []) : [{ matchExpressions: [] }]
  const nodeSelectorTerms = terms.map((term) => (required && isEmpty(term) ? term : reaching(term, wires)))
  const nodeAffinity = {
    ...affinity.nodeAffinity,
    requiredDuringSchedulingIgnoredDuringExecution: { ...required, nodeSelectorTerms },
  }
  return { ...pod, spec: { ...pod.spec, affinity: { ...affinity, nodeAffinity } } }
}

/** An empty term selects no node (core/v1 NodeSelectorTerm), and would with a wire in it. */
const isEmpty = ({ matchExpressions = [], matchFields = [] }: Term): boolean =>
  matchExpressions.length + matchFields.length === 0

function reaching(term: Term, wires: readonly string[]): Term {
  const expressions = term.matchExpressions ?? []
  const keys = new Set(expressions.filter(({ operator }) => operator === 'In').map(({ key }) => key))
  const missing = wires.map(wireLabel).filter((key) => !keys.has(key))
  const asked = missing.map((key) => ({ key, operator: 'In', values: ['true'] }))
  return { ...term, matchExpressions: [...expressions, ...asked] }
}

/** The first container asks for the devices, unless some container does already. */
function withDevices(pod: Pod, devices: ReadonlyMap<string, number>): Pod {
  const { containers, initContainers = [] } = pod.spec
  const asked = (name: string) =>
    [...containers, ...initContainers].some(
      (c) => c.resources?.limits?.[name] ?? c.resources?.requests?.[name],
    )
  const missing = [...devices].filter(([name]) => !asked(name)).map(([name, count]) => [name, String(count)])
  const [first, ...rest] = containers ?? []
  if (missing.length === 0 || !first) return pod
  const more = Object.fromEntries(missing) as Record<string, string>
  const { requests, limits, ...resources } = first.resources ?? {}
  const asking: Container = {
    ...first,
    // Of an extended resource, request and limit are one.
    resources: { ...resources, requests: { ...requests, ...more }, limits: { ...limits, ...more } },
  }
  return { ...pod, spec: { ...pod.spec, containers: [asking, ...rest] } }
}
