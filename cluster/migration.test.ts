import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { peerImages } from '../bench/peers/images.ts'
import { buildImage } from '../images/images.ts'
import { outputOf } from '../lab/output.ts'
import { endpointsOf } from '../lab/reach.ts'
import type { Pod } from '../src/api/core.ts'
import { toolDir } from './build.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { systemPath } from './debian.ts'
import { eventually, findings, type Kubectl, kubectlOf, side } from './kubectl.ts'

const root = join(import.meta.dirname, '..')
const page = readFileSync(join(root, 'docs/migration.md'), 'utf8')

/** What people copy from the page: its blocks of a language, in their order. */
const blocks = (language: string): string[] =>
  Array.from(
    page.matchAll(new RegExp(`^( *)\`\`\`${language}\\n(.*?)^\\1\`\`\`$`, 'gms')),
    ([, margin, text]) => text!.replaceAll(new RegExp(`^${margin}`, 'gm'), ''),
  )

/** docs/migration.md, word for word, on a cluster with Multus: there, back, there again, and Multus gone. */
suite('from Multus to Polynet', { concurrency: 1 }, () => {
  let cluster: Cluster
  let kubectl: Kubectl
  let dir: string
  let env: Record<string, string>
  const [values = ''] = blocks('yaml')
  const [begin = '', over = '', end = '', back = ''] = blocks('sh')

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'polynet-migration-'))
    symlinkSync(join(root, 'deploy'), join(dir, 'deploy'))
    cluster = await startCluster({ name: `migration-${process.pid}`, nodes: 2, defaultNetwork: 'bridge' })
    kubectl = kubectlOf(cluster)
    const tools = [dirname(cluster.kubectl), await toolDir('helm'), systemPath]
    env = { PATH: tools.join(':'), KUBECONFIG: cluster.kubeconfig, HOME: dir }
    for (const tar of await peerImages(dir, () => {})) await cluster.loadImage('all', tar)
    await cluster.loadImage('all', (await buildImage('polynet')).path)
    await kubectl(['label', 'nodes', '--all', 'bench=multus'])
    // Multus brings the definition of NetworkAttachmentDefinitions, too.
    for (const manifest of [`deploy/chart/crds/${definitions}.yaml`, 'bench/peers/multus.yaml'])
      await kubectl(['apply', '--server-side', '-f', join(root, manifest)])
    await kubectl(['wait', 'crd', definitions, '--for=condition=Established', '--timeout=30s'])
    await kubectl(['-n', 'kube-system', 'rollout', 'status', 'daemonset/kube-multus-ds', '--timeout=120s'])
    await kubectl(['apply', '-f', '-'], side + app)
  })
  after(async () => {
    await cluster?.close()
    if (dir) rmSync(dir, { recursive: true })
  })

  const play = async (block: string, node = 'n1') => {
    assert.notEqual(block, '')
    const here = block
      .replaceAll(/\bn1\b/g, node)
      .replace('--image=busybox', '$& --image-pull-policy=IfNotPresent')
    const { exit, output } = await outputOf(['sh', '-euc', `cd ${dir}\n${here}`], env)
    assert.equal(exit, 0, `${here}\n${output}`)
  }

  /** Both nodes have their first conf of these; and the application's pods, made anew, one on either node, have both networks. */
  const onNodes = async (n1: string, n2: string) => {
    for (const [node, conf] of Object.entries({ n1, n2 })) {
      const want = `${conf} 20-bridge.conflist`
      const confs = async () =>
        (await cluster.exec(node, ['ls', '/etc/cni/net.d'])).output.trim().replaceAll(/\s+/g, ' ')
      assert.equal(await eventually(want, confs), want)
    }
    await kubectl(['rollout', 'restart', 'deploy/app'])
    await kubectl(['rollout', 'status', 'deploy/app', '--timeout=120s'])
    const pods = async () => {
      const { items } = JSON.parse(await kubectl(['get', 'pods', '-l', 'app=app', '-o', 'json'])) as {
        items: Pod[]
      }
      return items
        .map(
          (pod) =>
            `${pod.spec.nodeName}: ${endpointsOf(pod)
              .map((each) => each.interface)
              .join(' ')}`,
        )
        .sort()
        .join('; ')
    }
    assert.equal(await eventually(both, pods), both)
  }
  const both = 'n1: eth0 net1; n2: eth0 net1'
  const [multus, polynet] = ['00-multus.conf', '00-polynet.conflist']

  test('Polynet is installed where no node is its own yet', { timeout: 200_000 }, async () => {
    await onNodes(multus, multus)
    writeFileSync(join(dir, 'values.yaml'), values)
    await play(begin)
    await onNodes(multus, multus)
  })

  test('one node after another gets it, and goes back, and gets it again', { timeout: 400_000 }, async () => {
    await play(over, 'n1')
    await onNodes(polynet, multus)
    await play(back, 'n1')
    await onNodes(multus, multus)
    for (const node of ['n1', 'n2']) await play(over, node)
    await onNodes(polynet, polynet)
  })

  test('Multus goes, and nobody has anything to say', { timeout: 200_000 }, async () => {
    await kubectl(['-n', 'kube-system', 'delete', 'daemonset', 'kube-multus-ds', '--timeout=60s'])
    writeFileSync(join(dir, 'values.yaml'), values.replaceAll(/^(agent|webhook): .*\n/gm, ''))
    await play(end)
    await onNodes(polynet, polynet)
    assert.equal(await eventually('', async () => (await findings(kubectl)).join('\n')), '')
  })
})

const definitions = 'network-attachment-definitions.k8s.cni.cncf.io'

const app = `
apiVersion: apps/v1
kind: Deployment
metadata: { name: app }
spec:
  replicas: 2
  selector: { matchLabels: { app: app } }
  template:
    metadata: { labels: { app: app }, annotations: { k8s.v1.cni.cncf.io/networks: side } }
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: DoNotSchedule
          nodeTaintsPolicy: Honor
          labelSelector: { matchLabels: { app: app } }
          matchLabelKeys: [pod-template-hash]
      containers: [{ name: main, image: busybox, imagePullPolicy: IfNotPresent }]
`
