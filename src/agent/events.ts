import type { KubeObject } from '../api/meta.ts'
import { resources } from '../api/resources.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import type { Log } from '../lib/log.ts'

/** Tells the owner of `object` something by an Event; what happens again within ten minutes counts up the same one. */
export interface Events {
  tell(object: KubeObject, type: 'Normal' | 'Warning', reason: string, message: string): void
}

const rememberMs = 10 * 60_000
const rememberMost = 1000

/** Events are for people: nothing waits for them, and none is worth a retry. */
export function eventsFrom(deps: {
  kube: Kube
  clock: Clock
  log: Log
  component: string
  host?: string
}): Events {
  const { kube, clock, log, component, host } = deps
  const told = new Map<string, { name: string; namespace: string; count: number; at: number }>()
  return {
    tell(object, type, reason, message) {
      const now = clock.now()
      const time = new Date(now).toISOString()
      const namespace = object.metadata.namespace ?? 'default'
      const text = message.length > 1024 ? `${message.slice(0, 1021)}...` : message
      const key = `${object.metadata.uid} ${reason} ${text}`
      const before = told.get(key)
      if (before && now - before.at < rememberMs) {
        before.count++
        before.at = now
        kube
          .patch(resources.events, before, {
            type: 'merge',
            body: { count: before.count, lastTimestamp: time },
          })
          .catch((error) => log.debug('an event was lost', { error: String(error) }))
        return
      }
      const name = `${object.metadata.name}.${now.toString(16)}${Math.random().toString(16).slice(2, 8)}`
      if (told.size >= rememberMost) told.delete(told.keys().next().value ?? '')
      told.set(key, { name, namespace, count: 1, at: now })
      kube
        .create(resources.events, {
          apiVersion: 'v1',
          kind: 'Event',
          metadata: { name, namespace },
          involvedObject: {
            apiVersion: object.apiVersion,
            kind: object.kind,
            ...(object.metadata.namespace ? { namespace: object.metadata.namespace } : {}),
            name: object.metadata.name,
            ...(object.metadata.uid ? { uid: object.metadata.uid } : {}),
          },
          type,
          reason,
          message: text,
          source: { component, ...(host ? { host } : {}) },
          reportingComponent: `polynet.dev/${component}`,
          reportingInstance: host ?? component,
          firstTimestamp: time,
          lastTimestamp: time,
          count: 1,
        })
        .catch((error) => log.debug('an event was lost', { error: String(error) }))
    },
  }
}
