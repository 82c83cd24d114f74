import { holds, type Labels, parseSelector } from '../../lib/selector.ts'

/** Of a DaemonSet's pod template, what says on which nodes its pods are. */
export interface PodTemplate {
  nodeSelector?: Record<string, string>
  affinity?: {
    nodeAffinity?: { requiredDuringSchedulingIgnoredDuringExecution?: { nodeSelectorTerms?: Term[] } }
  }
}

/** core/v1 NodeSelectorTerm: all of it must hold; an empty one holds nowhere. */
interface Term {
  matchExpressions?: Expression[]
  matchFields?: Expression[]
}

interface Expression {
  key: string
  operator: string
  values?: string[]
}

/**
 * Pure: whether a DaemonSet wants a pod on this node, by the labels and the
 * name that it asks for. What is not understood counts as met, and taints
 * count for nothing: a DaemonSet may be said not to want a node only where
 * that is certain.
 */
export function isWanted(node: { name: string; labels?: Labels }, template: PodTemplate = {}): boolean {
  const { nodeSelector = {}, affinity } = template
  const labels = node.labels ?? {}
  for (const [key, value] of Object.entries(nodeSelector)) if (labels[key] !== value) return false
  const required = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
  if (!required) return true
  return (required.nodeSelectorTerms ?? []).some(
    ({ matchExpressions = [], matchFields = [] }) =>
      matchExpressions.length + matchFields.length > 0 &&
      matchExpressions.every((each) => isMet(each, labels)) &&
      matchFields.every((each) => isNamed(each, node.name)),
  )
}

function isMet(expression: Expression, labels: Labels): boolean {
  const parsed = parseSelector({ matchExpressions: [expression] })
  return !parsed.ok || holds(parsed.value, labels)
}

/** The only field that can be asked for; names are longer than labels' values may be. */
function isNamed({ key, operator, values = [] }: Expression, name: string): boolean {
  if (key !== 'metadata.name' || !['In', 'NotIn'].includes(operator)) return true
  return values.includes(name) === (operator === 'In')
}
