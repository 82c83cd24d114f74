import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { peerImages } from '../bench/peers/images.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { installPolynet } from './install.ts'
import {
  agentPods,
  blueAndRed,
  eventually,
  findings,
  idlePod,
  type Kubectl,
  kubectlOf,
  ptp,
  side,
} from './kubectl.ts'

/** A node whose default network is another plugin's, on which Multus was installed as its quick start says. */
suite('beside Multus', { concurrency: 1 }, () => {
  let cluster: Cluster
  let kubectl: Kubectl

  before(async () => {
    cluster = await startCluster({ name: `multus-${process.pid}`, nodes: 2, defaultNetwork: 'bridge' })
    kubectl = kubectlOf(cluster)
    await installPolynet(cluster, ['allowedPlugins={*}'])
    await apply(blueAndRed, side)
  })
  after(async () => {
    await cluster?.close()
  })

  const apply = (...manifests: string[]) => kubectl(['apply', '-f', '-'], manifests.join(''))
  const on = async (script: string) => {
    const { exit, output } = await cluster.exec('n1', ['sh', '-c', script])
    assert.equal(exit, 0, `${script}: ${output}`)
    return output.trim()
  }
  const confs = () => on('ls /etc/cni/net.d | grep -v "^[.]" | tr "\\n" " "')
  const field = (pod: string, path: string) => kubectl(['get', 'pod', pod, '-o', `jsonpath={${path}}`])

  /** A pod's interfaces as its kernel has them, and as its status says; then it is gone, and what it had is free. */
  const interfacesOf = async (name: string, networks: string) => {
    await apply(idlePod(name, 'n1', networks))
    await kubectl(['wait', 'pod', name, '--for=condition=Ready', '--timeout=90s'])
    const inPod = ['ip', '-o', '-4', 'address', 'show', 'scope', 'global']
    const { output } = await cluster.execInPod(await field(name, '.metadata.uid'), inPod)
    const told = JSON.parse(
      await field(name, '.metadata.annotations.k8s\\.v1\\.cni\\.cncf\\.io/network-status'),
    ) as { interface: string; ips: string[] }[]
    const kernel = output.trim().split('\n')
    await kubectl(['delete', 'pod', name, '--timeout=60s'])
    assert.equal(await on('ls /var/lib/cni/networks/side | grep -c "^10" || true'), '0')
    return {
      kernel: kernel.map((line) => line.replace(/^\d+: (\S+) +inet (\d+\.\d+)\..*$/s, '$1 $2')).sort(),
      told: told.map((each) => `${each.interface} ${each.ips[0]?.replace(/^(\d+\.\d+)\..*$/, '$1')}`),
    }
  }
  const each = ['eth0 10.244', 'net1 10.1', 'net2 10.99']

  test('Multus comes after Polynet: each network is there once', { timeout: 200_000 }, async () => {
    assert.equal(await confs(), '00-polynet.conflist 20-bridge.conflist')
    const dir = mkdtempSync(join(tmpdir(), 'polynet-multus-'))
    try {
      for (const tar of await peerImages(dir, () => {})) await cluster.loadImage('n1', tar)
    } finally {
      rmSync(dir, { recursive: true })
    }
    await kubectl(['label', 'node', 'n1', 'bench=multus'])
    const multus = readFileSync(join(import.meta.dirname, '../bench/peers/multus.yaml'), 'utf8')
    await apply(multus)
    await kubectl(['-n', 'kube-system', 'rollout', 'status', 'daemonset/kube-multus-ds', '--timeout=120s'])
    const both = '0-polynet.conflist 00-multus.conf 20-bridge.conflist'
    assert.equal(await eventually(both, confs), both)
    assert.deepEqual(await interfacesOf('after', 'blue,side'), { kernel: each, told: each })
  })

  test('Polynet comes when Multus is there: the same', { timeout: 200_000 }, async () => {
    const onN1 = [...agentPods, '--field-selector=spec.nodeName=n1', '-o']
    const restarts = () => kubectl([...onN1, 'jsonpath={.items[0].status.containerStatuses[0].restartCount}'])
    const ready = () => kubectl([...onN1, 'jsonpath={.items[0].status.containerStatuses[0].ready}'])
    const before = Number(await restarts())
    assert.equal(await cluster.killAgent('n1'), 1)
    assert.equal(await eventually(true, async () => Number(await restarts()) > before), true)
    assert.equal(await eventually('true', ready), 'true')
    assert.deepEqual(await interfacesOf('before', 'blue,side'), { kernel: each, told: each })
  })

  test('the doctor names Multus, and what to do', { timeout: 100_000 }, async () => {
    assert.match(
      (await findings(kubectl)).join(),
      /00-multus\.conf is of a program that attaches pods by the same annotations as Polynet; it is not executed, since Polynet comes first; remove its DaemonSet and that file/,
    )
    await kubectl(['-n', 'kube-system', 'delete', 'daemonset', 'kube-multus-ds', '--timeout=60s'])
    await on('rm -f /etc/cni/net.d/00-multus.conf')
    const alone = '00-polynet.conflist 20-bridge.conflist'
    assert.equal(await eventually(alone, confs), alone)
    assert.equal(await eventually('', async () => (await findings(kubectl)).join('\n')), '')
  })

  /** What Multus' own tests do with a node's files, which no manifest can. */
  test('a definition without a configuration is that of the node’s file of its name', {
    timeout: 100_000,
  }, async () => {
    await on(`echo '${ptp('filed', '10.98.0.0/24')}' > /etc/cni/net.d/90-filed.conf`)
    await apply(`
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: { name: filed }
---`)
    const want = ['eth0 10.244', 'net1 10.98']
    assert.deepEqual(await interfacesOf('by-file', 'filed'), { kernel: want, told: want })
    await on('rm /etc/cni/net.d/90-filed.conf')
  })

  test('a static pod gets what its annotation names', { timeout: 100_000 }, async () => {
    await on(`mkdir -p /etc/kubernetes/manifests; cat > /etc/kubernetes/manifests/static.yaml <<'END'
${idlePod('static', 'n1', 'blue,side').replace('metadata: {', 'metadata: { namespace: default,').replace(/---$/, '')}
END`)
    const name = 'static-n1'
    const running = () => field(name, '.status.phase')
    assert.equal(await eventually('Running', running), 'Running')
    const told = async () =>
      (
        JSON.parse(
          (await field(name, '.metadata.annotations.k8s\\.v1\\.cni\\.cncf\\.io/network-status')) || '[]',
        ) as { interface: string }[]
      )
        .map(({ interface: link }) => link)
        .join()
    assert.equal(await eventually('eth0,net1,net2', told), 'eth0,net1,net2')
    await on('rm /etc/kubernetes/manifests/static.yaml')
    await kubectl(['wait', `pod/${name}`, '--for=delete', '--timeout=60s'])
    assert.equal(await eventually('', async () => (await findings(kubectl)).join('\n')), '')
  })
})
