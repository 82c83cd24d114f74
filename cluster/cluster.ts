import { spawnSync } from 'node:child_process'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { type Way, wayIn } from '../lab/enter.ts'
import { Fault } from '../src/lib/fault.ts'
import { bootCluster, type Connected, kubeconfigOf } from './boot.ts'
import { type Tool, toolDir } from './build.ts'
import { ensureDebian } from './debian.ts'
import { baseImages } from './images.ts'
import type { DefaultNetwork } from './machines.ts'
import { ensureWatchers } from './watchers.ts'

export const kubernetesVersions = ['1.37', '1.34'] as const
export type KubernetesVersion = (typeof kubernetesVersions)[number]

export interface ClusterOptions {
  /** Several at once have different names. */
  name?: string
  /** How many; they are called n1, n2 … */
  nodes?: number
  /** NICs of each node beside `eth0`, a switch behind each. */
  nics?: string[]
  defaultNetwork?: DefaultNetwork
  /** Absent: what `POLYNET_KUBERNETES` says, else the newest. */
  kubernetes?: KubernetesVersion
  /** Of the API server on 127.0.0.1; 0 or absent: any that is free. */
  port?: number
  /** containerd looks every second at what each container uses, as it does by default: for those who measure. Else nobody pays for that. */
  metered?: boolean
  /** It goes on when this process ends; else it ends with it, however that ends. */
  stay?: boolean
  /** Hears what takes long. */
  say?: (line: string) => void
}

export interface Cluster extends Connected {
  name: string
  /** For `kubectl`, and its path. */
  kubeconfig: string
  kubectl: string
}

/** A real Kubernetes on this machine, its nodes Ready. The first one builds what it needs, which takes minutes. */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const { name = 'cluster', nodes = 2, nics = ['eth1', 'eth2'], kubernetes = versionAsked() } = options
  const { defaultNetwork = 'bridge', metered = false, port, stay, say = () => {} } = options
  const way = wayOfRoot()
  ensureDebian(say)
  ensureWatchers(name, nodes)
  const programs = {
    kubernetes: await toolDir(`kubernetes-${kubernetes}` satisfies Tool, say),
    containerd: await toolDir('containerd', say),
    etcd: await toolDir('etcd', say),
    plugins: await toolDir('plugins', say),
    ...(defaultNetwork === 'flannel' && {
      flannel: { flannel: await toolDir('flannel', say), plugin: await toolDir('flannel-plugin', say) },
    }),
  }
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'polynet')
  const images = await baseImages(cache, say)
  const wiring = { nodes: Array.from({ length: nodes }, (_, i) => `n${i + 1}`), nics }
  const booted = await bootCluster(way, {
    name,
    wiring,
    defaultNetwork,
    programs,
    images,
    metered,
    port,
    stay,
  })
  return { ...booted, name, kubeconfig: kubeconfigOf(name), kubectl: join(programs.kubernetes, 'kubectl') }
}

function versionAsked(): KubernetesVersion {
  const asked = process.env.POLYNET_KUBERNETES ?? kubernetesVersions[0]
  const found = kubernetesVersions.find((version) => version === asked)
  if (found) return found
  throw new Fault(
    'invalid',
    'start a cluster',
    `POLYNET_KUBERNETES=${asked}: it takes ${kubernetesVersions.join(' or ')}`,
  )
}

/** containerd makes devices and control groups: no user namespace may. */
function wayOfRoot(): Exclude<Way, { how: 'none' }> {
  const doing = 'start a cluster on this machine'
  if (process.platform === 'linux' && process.getuid?.() !== 0)
    throw new Fault('forbidden', doing, 'it takes root; try sudo, or npm run lab, which does not')
  const way = wayIn()
  if (way.how === 'root') return way
  const why =
    way.how === 'none'
      ? way.why
      : spawnSync('unshare', ['--mount', '--net', '--pid', '--fork', 'true'], { encoding: 'utf8' }).stderr
  throw new Fault('unsupported', doing, `${why.trim()}; npm start runs a simulation instead`)
}
