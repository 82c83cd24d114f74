import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '../src/lib/fault.ts'
import type { Cluster } from './cluster.ts'

/** What people type: resolves with what it prints, rejects with what it complains about. */
export type Kubectl = (args: string[], stdin?: string) => Promise<string>

export const kubectlOf =
  (cluster: Pick<Cluster, 'kubectl' | 'kubeconfig'>): Kubectl =>
  async (args, stdin) => {
    const child = spawn(cluster.kubectl, [`--kubeconfig=${cluster.kubeconfig}`, ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    child.stdin.on('error', () => {})
    child.stdin.end(stdin ?? '')
    const ended = new Promise<number>((resolve) => child.on('close', (code) => resolve(code ?? 128)))
    const [out, err, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
    if (code === 0) return out.trim()
    throw new Fault('unavailable', `kubectl ${args.slice(0, 6).join(' ')}`, `${out}${err}`.trim())
  }

/** What each agent's doctor finds, a line for each difference; none where all agree. */
export async function findings(kubectl: Kubectl): Promise<string[]> {
  const agents = await kubectl([...agentPods, '-o', 'name'])
  const said = await Promise.all(
    agents.split('\n').map((pod) =>
      kubectl(['-n', 'polynet-system', 'exec', pod, '--', 'polynet', 'doctor']).then(
        () => '',
        (error: Error) => error.message,
      ),
    ),
  )
  return said.filter((each) => each !== '')
}

export const agentPods = [
  ...['-n', 'polynet-system', 'get', 'pods'],
  ...['-l', 'app.kubernetes.io/component=agent'],
]

/** What `ask` says as soon as it is `want`; what it said last when that took longer than `withinMs`. */
export async function eventually<T>(want: T, ask: () => Promise<T>, withinMs = 60_000): Promise<T | string> {
  const until = performance.now() + withinMs
  for (;;) {
    const said = await ask().catch((error: Error) => error.message)
    if (said === want || performance.now() > until) return said
    await sleep(200)
  }
}

/** A pod that idles on a node; `networks` as in its annotation. */
export const idlePod = (name: string, node: string, networks?: string): string => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}${networks ? `, annotations: { k8s.v1.cni.cncf.io/networks: '${networks}' }` : ''} }
spec:
  nodeSelector: { kubernetes.io/hostname: ${node} }
  terminationGracePeriodSeconds: 1
  containers: [{ name: main, image: busybox, imagePullPolicy: IfNotPresent }]
---`

/** A configuration of the reference plugin ptp, whose addresses are of `subnet`. */
export const ptp = (name: string, subnet: string): string =>
  JSON.stringify({
    cniVersion: '1.0.0',
    name,
    type: 'ptp',
    ipam: { type: 'host-local', ranges: [[{ subnet }]] },
  })

/** A network `side` that a plugin carries, of 10.99.0.0/24 on each node. */
export const side = `
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: { name: side }
spec: { config: '${ptp('side', '10.99.0.0/24')}' }
---`

/** Networks blue and red, each with both families. */
export const blueAndRed = [
  ['blue', 1],
  ['red', 2],
]
  .map(
    ([name, n]) => `
apiVersion: polynet.dev/v1alpha1
kind: Network
metadata: { name: ${name} }
spec: { subnets: [{ cidr: 10.${n}.0.0/16 }, { cidr: 'fd00:10:${n}::/64' }] }
---`,
  )
  .join('')
