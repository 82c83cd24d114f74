import type { KubeObject, Resource } from '../api/meta.ts'
import { isFault } from '../lib/fault.ts'
import type { Kube, Ref } from './port.ts'

/** The object, or undefined where there is none. */
export async function found<T extends KubeObject>(
  kube: Kube,
  resource: Resource<T>,
  ref: Ref,
): Promise<T | undefined> {
  try {
    return await kube.get(resource, ref)
  } catch (error) {
    if (isFault(error, 'missing')) return undefined
    throw error
  }
}
