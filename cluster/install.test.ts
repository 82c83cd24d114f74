import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { buildImage } from '../images/images.ts'
import type { Node } from '../src/api/core.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { chart, helm, webhookAnswers } from './install.ts'
import { agentPods, blueAndRed, eventually, findings, idlePod, type Kubectl, kubectlOf } from './kubectl.ts'

const manifest = join(import.meta.dirname, '../deploy/polynet.yaml')
const confs = ['ls', '/etc/cni/net.d']

/** What docs/install.md says, on a cluster of each kind: installed, used, removed, installed again. */
interface Kind {
  defaultNetwork: 'none' | 'bridge' | 'flannel'
  install: (cluster: Cluster, kubectl: Kubectl) => Promise<unknown>
  remove: (cluster: Cluster, kubectl: Kubectl) => Promise<unknown>
  /** Names in the conf directory: installed, and removed. */
  confs: [string, string]
  /** What made `eth0`, as `network-status` names it. */
  eth0: string
}

/** While they have the right to: they take from their Nodes what they told the scheduler. */
const agentsGo = (kubectl: Kubectl) =>
  kubectl([
    ...['-n', 'polynet-system', 'delete', 'daemonset', 'polynet-agent'],
    ...['--cascade=foreground', '--timeout=90s'],
  ])
const byManifest = {
  install: async (_: Cluster, kubectl: Kubectl) => {
    await kubectl(['apply', '-f', manifest])
    await kubectl(['-n', 'polynet-system', 'rollout', 'status', 'daemonset/polynet-agent', '--timeout=90s'])
    await kubectl(['-n', 'polynet-system', 'rollout', 'status', 'deploy/polynet-webhook', '--timeout=90s'])
    await webhookAnswers(kubectl)
  },
  remove: async (_: Cluster, kubectl: Kubectl) => {
    await agentsGo(kubectl)
    await kubectl(['delete', '-f', manifest, '-l', '!polynet.dev/kept', '--timeout=90s'])
  },
}
const beside = ['--set-json', 'defaultNetwork.subnets=[]']
const byHelm = (...values: string[]) => ({
  install: (cluster: Cluster) =>
    helm(cluster, ['install', 'polynet', chart, '--create-namespace', ...values]),
  remove: (cluster: Cluster) => helm(cluster, ['uninstall', 'polynet']),
})

const kinds: Kind[] = [
  {
    defaultNetwork: 'none',
    ...byManifest,
    confs: ['00-polynet.conflist', '00-polynet.conflist'],
    eth0: 'polynet-system/default',
  },
  {
    defaultNetwork: 'bridge',
    ...byHelm(...beside),
    confs: ['00-polynet.conflist 20-bridge.conflist', '20-bridge.conflist'],
    eth0: 'bridge',
  },
  {
    defaultNetwork: 'flannel',
    ...byHelm(...beside),
    confs: ['00-polynet.conflist 10-flannel.conflist', '10-flannel.conflist'],
    eth0: 'cbr0',
  },
]

const wire = `
apiVersion: polynet.dev/v1alpha1
kind: PhysicalNetwork
metadata: { name: phy-net0 }
spec: { nics: [{ match: { name: eth1 } }] }
---`

for (const kind of kinds)
  suite(`Polynet on a cluster with ${kind.defaultNetwork}`, { concurrency: 1 }, () => {
    const { defaultNetwork } = kind
    let cluster: Cluster
    let kubectl: Kubectl

    before(async () => {
      const { path } = await buildImage('polynet')
      cluster = await startCluster({ name: `install-${process.pid}`, nodes: 2, defaultNetwork })
      kubectl = kubectlOf(cluster)
      await cluster.loadImage('all', path)
    })
    after(async () => {
      await cluster?.close()
    })

    const on = async (node: string, argv: string[]) =>
      (await cluster.exec(node, argv)).output.trim().split('\n').sort().join(' ')
    const pod = (field: string, name = 'old') => kubectl(['get', 'pod', name, '-o', `jsonpath={${field}}`])
    const status = async (name: string) =>
      JSON.parse(await pod('.metadata.annotations.k8s\\.v1\\.cni\\.cncf\\.io/network-status', name)) as {
        name: string
        interface: string
        ips: string[]
      }[]
    const links = async (name: string) => {
      const { output } = await cluster.execInPod(await pod('.metadata.uid', name), ['ip', '-br', 'link'])
      return output
        .match(/^\w+(?=@|\s)/gm)
        ?.sort()
        .join(' ')
    }
    const isReady = (name: string) => kubectl(['wait', 'pod', name, '--for=condition=Ready', '--timeout=60s'])
    const pings = async (from: string, to: string) => {
      const { exit, output } = await cluster.execInPod(await pod('.metadata.uid', from), [
        ...['ping', '-c1', '-W2', to],
      ])
      return exit === 0 ? 'answers' : output
    }
    /** The other plugin's addresses that are taken on a node, and those of the pods that are there. */
    const held = ['sh', '-c', 'ls /var/lib/cni/networks/* | grep -E "^10\\."']
    const podIPs = async (node: string) => {
      const of = (name: string) => kubectl(['get', 'pods', '-n', name, '-o', `jsonpath=${template}`])
      const template = `{range .items[?(@.spec.nodeName=="${node}")]}{.status.podIP}{"\\n"}{end}`
      const all = (await Promise.all(['default', 'kube-system'].map(of))).join('\n').split('\n')
      return all
        .filter((ip) => ip !== '')
        .sort()
        .join(' ')
    }
    /** What the scheduler is told of nodes, a line for each. */
    const reach = async () => {
      const { items } = JSON.parse(await kubectl(['get', 'nodes', '-o', 'json'])) as { items: Node[] }
      const keys = items.flatMap(({ metadata, status }) =>
        [metadata.labels, status?.capacity, status?.allocatable].flatMap((each) => Object.keys(each ?? {})),
      )
      return keys.filter((key) => key.includes('polynet.dev')).join(' ')
    }
    let plain: string

    test('it is installed, and the nodes are Ready', { timeout: 150_000 }, async () => {
      // One that was there before it, or waits for it.
      await kubectl(['apply', '-f', '-'], idlePod('before', 'n1'))
      if (defaultNetwork !== 'none') await isReady('before')
      await kind.install(cluster, kubectl)
      await isReady('before')
      // Nothing but that there was no node for it yet.
      const warnings = 'involvedObject.name=before,type=Warning,reason!=FailedScheduling'
      assert.equal(await kubectl(['get', 'events', '--field-selector', warnings, '-o', 'name']), '')
      await kubectl(['wait', 'nodes', '--all', '--for=condition=Ready', '--timeout=60s'])
      assert.equal(await on('n1', confs), kind.confs[0])
    })

    test('pods have networks beside the default one', { timeout: 120_000 }, async () => {
      const pods = idlePod('old', 'n1', 'blue,red') + idlePod('peer', 'n2', 'blue,red')
      await kubectl(['apply', '-f', '-'], wire + blueAndRed + pods + idlePod('plain', 'n1'))
      for (const name of ['old', 'peer', 'plain']) await isReady(name)
      assert.deepEqual(
        (await status('old')).map((each) => `${each.interface} ${each.name}`),
        [`eth0 ${kind.eth0}`, 'net1 default/blue', 'net2 default/red'],
      )
      assert.equal(await links('plain'), 'eth0 lo')
      for (const { interface: name, ips } of await status('peer'))
        for (const ip of ips) assert.equal(`${name} ${await pings('old', ip)}`, `${name} answers`)
      assert.deepEqual(await findings(kubectl), [])
      const [label, nic] = ['physical.polynet.dev/phy-net0', 'nic.polynet.dev/phy-net0']
      const both = [label, nic, nic, label, nic, nic].join(' ')
      assert.equal(await eventually(both, reach), both)
    })

    test('removed, it leaves running pods their networks', { timeout: 150_000 }, async () => {
      const before = await on('n1', ['cat', `/etc/cni/net.d/${kind.confs[1]}`])
      await kind.remove(cluster, kubectl)
      assert.equal(await eventually('', () => kubectl([...agentPods, '-o', 'name'])), '')
      assert.equal(await eventually('', reach), '')
      assert.equal(await on('n1', confs), kind.confs[1])
      assert.equal(await on('n1', ['cat', `/etc/cni/net.d/${kind.confs[1]}`]), before)
      assert.equal(await links('old'), 'eth0 lo net1 net2')
      for (const { interface: name, ips } of await status('peer'))
        for (const ip of ips) assert.equal(`${name} ${await pings('old', ip)}`, `${name} answers`)
      plain = await pod('.status.podIP', 'plain')
    })

    test('their ends are taken, and new ones start as before', { timeout: 150_000 }, async () => {
      await kubectl(['delete', 'pod', 'old', '--timeout=60s'])
      await kubectl(['apply', '-f', '-'], idlePod('new', 'n1'))
      if (defaultNetwork === 'none') {
        const ready = '{.status.conditions[?(@.type=="Ready")].status}'
        const node = () => kubectl(['get', 'node', 'n1', '-o', `jsonpath=${ready}`])
        assert.equal(await eventually('False', node), 'False')
        assert.equal(await pod('.status.phase', 'new'), 'Pending')
      } else {
        await isReady('new')
        assert.equal(await links('new'), 'eth0 lo')
      }
    })

    test('installed again, it takes up what is there', { timeout: 150_000 }, async () => {
      await kind.install(cluster, kubectl)
      await isReady('new')
      await kubectl(['apply', '-f', '-'], idlePod('later', 'n1', 'blue,red'))
      await isReady('later')
      for (const { interface: name, ips } of await status('peer'))
        for (const ip of ips) assert.equal(`${name} ${await pings('later', ip)}`, `${name} answers`)
      assert.equal(await on('n1', confs), kind.confs[0])
      assert.equal(await pod('.status.podIP', 'plain'), plain)
      await kubectl(['delete', 'pods', '--all', '--timeout=60s'])
      assert.deepEqual(await findings(kubectl), [])
      // What the other plugin gave to pods that it made alone, too.
      if (defaultNetwork !== 'none') assert.equal(await on('n1', held), await podIPs('n1'))
    })
  })
