import { readFileSync } from 'node:fs'
import type { Log } from '../lib/log.ts'

/** The devices that the kubelet gave to containers of a pod, sorted, by resource name. */
export type Devices = ReadonlyMap<string, readonly string[]>

const none: Devices = new Map()

/**
 * Devices by the kubelet's own notes, which it writes before a pod's sandbox
 * is made. No notes, as where no device plugin ever was, are no devices;
 * others than expected are told of.
 */
export const kubeletDevices =
  (path: string, log: Log) =>
  (podUID: string): Devices => {
    let text: string
    try {
      text = readFileSync(path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        log.warn('read which devices pods were given', { path, error: String(error) })
      return none
    }
    const devices = devicesIn(text, podUID)
    if (!devices) log.warn('the kubelet notes devices in a way that is not known here', { path })
    return devices ?? none
  }

/** Pure: what the notes (`kubelet_internal_checkpoint`) say of a pod; undefined where they are none. */
export function devicesIn(text: string, podUID: string): Devices | undefined {
  let notes: Notes
  try {
    notes = JSON.parse(text)
  } catch {
    return undefined
  }
  const entries = notes?.Data?.PodDeviceEntries ?? []
  if (!notes?.Data || !Array.isArray(entries)) return undefined
  const devices = new Map<string, string[]>()
  for (const entry of entries) {
    if (entry?.PodUID !== podUID || typeof entry.ResourceName !== 'string') continue
    const known = devices.get(entry.ResourceName) ?? []
    // By NUMA node; all in one list before Kubernetes 1.20.
    const ids = Object.values(entry.DeviceIDs ?? {}).flat()
    known.push(...ids.filter((id) => typeof id === 'string' && !known.includes(id)).map(String))
    // It writes them in another order each time.
    devices.set(entry.ResourceName, known.sort())
  }
  return devices
}

interface Notes {
  Data?: {
    PodDeviceEntries?: { PodUID?: unknown; ResourceName?: unknown; DeviceIDs?: object | null }[] | null
  }
}
