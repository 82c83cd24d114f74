import { accessSync } from 'node:fs'
import { join } from 'node:path'
import { spawn } from '../src/lib/spawn.ts'
import type { BenchPod } from './node.ts'

const folder = '/usr/lib/cni'

/** Why the reference plugins cannot be measured here, or nothing. */
export function missingReference(): string | undefined {
  try {
    for (const name of ['bridge', 'host-local']) accessSync(join(folder, name))
    return undefined
  } catch {
    return `no reference plugins in ${folder}; apt-get install containernetworking-plugins`
  }
}

/**
 * The reference bridge plugin with host-local, executed once for each network
 * of the pod, one after another: what it takes at least when a meta plugin
 * delegates to it, the meta plugin's own time not counted.
 */
export async function reference(command: 'ADD' | 'DEL', pod: BenchPod, dir: string): Promise<void> {
  const plugin = join(folder, 'bridge')
  for (let i = 0; i < pod.networks; i++) {
    const env = {
      PATH: process.env.PATH ?? '/usr/bin:/bin',
      CNI_COMMAND: command,
      CNI_PATH: folder,
      CNI_CONTAINERID: pod.name,
      CNI_NETNS: pod.netns,
      CNI_IFNAME: `eth${i}`,
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=${pod.name}`,
    }
    const { code, stdout } = await spawn(plugin, [plugin], env, confOf(i, dir), { timeoutMs: 60_000 })
    if (code !== 0) throw new Error(`${command} ${pod.name} by the bridge plugin: ${stdout}`)
  }
}

const confOf = (index: number, dir: string): Buffer =>
  Buffer.from(
    JSON.stringify({
      cniVersion: '1.0.0',
      name: `reference${index}`,
      type: 'bridge',
      bridge: `reference${index}`,
      isGateway: true,
      ipMasq: false,
      ipam: {
        type: 'host-local',
        dataDir: join(dir, 'host-local'),
        ranges: [[{ subnet: `10.${100 + index}.0.0/16` }]],
        ...(index === 0 && { routes: [{ dst: '0.0.0.0/0' }] }),
      },
    }),
  )
