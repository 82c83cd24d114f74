import { resources } from '../../api/resources.ts'
import type { Kube, Ref } from '../../kube/port.ts'
import type { Clock } from '../../lib/clock.ts'
import { isFault } from '../../lib/fault.ts'
import { daemonSets } from './removal.ts'

const lookMs = 500

/**
 * Deletes the agents' DaemonSet and waits until its pods, by `labels`, are
 * gone: while they still have the right to, they take from their Nodes what
 * they told the scheduler. Resolves to the nodes whose agents are there still
 * after `withinMs`, sorted; nodes that are off keep theirs. No DaemonSet: there
 * is nothing to delete.
 */
export async function removeAgents(
  kube: Kube,
  clock: Clock,
  { daemonSet, labels, withinMs }: { daemonSet: Ref; labels: string; withinMs: number },
): Promise<string[]> {
  const late = clock.now() + withinMs
  try {
    await kube.delete(daemonSets, daemonSet)
  } catch (error) {
    if (!isFault(error, 'missing')) throw error
  }
  for (;;) {
    const { items } = await kube.list(resources.pods, { namespace: daemonSet.namespace, labels })
    if (items.length === 0 || clock.now() >= late) return items.map(({ spec }) => spec.nodeName ?? '').sort()
    await clock.sleep(lookMs)
  }
}
