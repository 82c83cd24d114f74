import { eventsFrom } from '../src/agent/events.ts'
import type { Pod } from '../src/api/core.ts'
import { resources } from '../src/api/resources.ts'
import { mirror } from '../src/kube/mirror.ts'
import type { Kube } from '../src/kube/port.ts'
import type { Clock } from '../src/lib/clock.ts'
import { asFault } from '../src/lib/fault.ts'
import type { Log } from '../src/lib/log.ts'
import { placementFor } from './scheduler.ts'

/**
 * Stands in for kube-scheduler: binds every pod that has no node to the one
 * that `placementFor` says, and says by an Event and a condition why it cannot.
 * Returns how to stop.
 */
export function startScheduler(deps: { kube: Kube; clock: Clock; log: Log }): { close(): void } {
  const { kube, clock, log } = deps
  const events = eventsFrom({ ...deps, component: 'default-scheduler' })
  const nodes = mirror(kube, resources.nodes, {}, { clock, log })
  const pods = mirror(kube, resources.pods, {}, { clock, log })
  /** Bound by us, though the watch has not said so yet: they take room. */
  const bound = new Map<string, string>()
  const said = new Map<string, string>()
  let passing = false
  let again = false

  const pass = async () => {
    const all = pods.list().map((pod): Pod => {
      const node = bound.get(pod.metadata.uid ?? '')
      if (pod.spec.nodeName) bound.delete(pod.metadata.uid ?? '')
      return pod.spec.nodeName || !node ? pod : { ...pod, spec: { ...pod.spec, nodeName: node } }
    })
    for (const [i, pod] of all.entries()) {
      if (pod.spec.nodeName || pod.metadata.deletionTimestamp) continue
      const placement = placementFor(pod, nodes.list(), all)
      const uid = pod.metadata.uid ?? ''
      if ('node' in placement) {
        await bind(kube, pod, placement.node)
        bound.set(uid, placement.node)
        all[i] = { ...pod, spec: { ...pod.spec, nodeName: placement.node } }
        events.tell(pod, 'Normal', 'Scheduled', `Successfully assigned ${nameOf(pod)} to ${placement.node}`)
      } else if (said.get(uid) !== placement.unschedulable) {
        said.set(uid, placement.unschedulable)
        events.tell(pod, 'Warning', 'FailedScheduling', placement.unschedulable)
      }
    }
  }

  const wake = async () => {
    again = true
    if (passing) return
    passing = true
    await Promise.all([nodes.synced, pods.synced])
    while (again) {
      again = false
      await pass().catch(async (error) => {
        log.debug('schedule', { error: asFault(error, 'schedule').message })
        await clock.sleep(200)
        again = true
      })
    }
    passing = false
  }
  nodes.onChange(wake)
  pods.onChange(wake)
  void wake()

  return {
    close() {
      nodes.close()
      pods.close()
    },
  }
}

const nameOf = (pod: Pod): string => `${pod.metadata.namespace}/${pod.metadata.name}`

/** A real server wants the `binding` subresource; this one takes the field. */
async function bind(kube: Kube, pod: Pod, nodeName: string): Promise<void> {
  const { namespace, name } = pod.metadata
  await kube.patch(resources.pods, { namespace, name }, { type: 'merge', body: { spec: { nodeName } } })
}
