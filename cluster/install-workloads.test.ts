import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { endpointsOf } from '../lab/reach.ts'
import type { Pod } from '../src/api/core.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { installPolynet } from './install.ts'
import { blueAndRed, eventually, findings, idlePod, type Kubectl, kubectlOf } from './kubectl.ts'

/** What people run, on a cluster whose only network is Polynet's, under kube-proxy and CoreDNS. */
suite('workloads', { concurrency: 1 }, () => {
  let cluster: Cluster
  let kubectl: Kubectl

  before(async () => {
    cluster = await startCluster({ name: `workloads-${process.pid}`, nodes: 2, defaultNetwork: 'none' })
    kubectl = kubectlOf(cluster)
    await installPolynet(cluster)
    await kubectl(['apply', '-f', '-'], blueAndRed + workloads)
    for (const made of ['deploy/web', 'statefulset/db'])
      await kubectl(['rollout', 'status', made, '--timeout=90s'])
    await kubectl(['wait', 'pods', 'client', 'on-node', '--for=condition=Ready', '--timeout=90s'])
  })
  after(async () => {
    await cluster?.close()
  })

  const pods = async (selector: string): Promise<Pod[]> =>
    (JSON.parse(await kubectl(['get', 'pods', '-l', selector, '-o', 'json'])) as { items: Pod[] }).items
  const wget = (pod: string, url: string) =>
    kubectl(['exec', pod, '--', 'timeout', '3', 'wget', '-qO-', `http://${url}`])

  /** One of each node, by their addresses of both families, and the Service's. */
  const urls = async (): Promise<string[]> => {
    const ips = (await pods('app=web')).flatMap((pod) => (pod.status?.podIPs ?? []).map(({ ip }) => ip))
    const service = await kubectl(['get', 'service', 'web', '-o', 'jsonpath={.spec.clusterIPs[*]}'])
    const host = (ip: string) => (ip.includes(':') ? `[${ip}]` : ip)
    return [...ips.map((ip) => `${host(ip)}:8080`), ...service.split(' ').map(host)]
  }

  test('probes pass, and pods reach a Service by its name and addresses', { timeout: 120_000 }, async () => {
    for (const url of [...(await urls()), 'web', 'web.default.svc.cluster.local'])
      assert.equal(`${url} ${await eventually('hello', () => wget('client', url), 30_000)}`, `${url} hello`)
  })

  test('nodes, and pods in their network, reach pods of all nodes and the Service', {
    timeout: 120_000,
  }, async () => {
    // These nodes have no way by which a packet for an IPv6 Service would leave, and kube-proxy takes none that does not.
    const routed = (await urls()).filter((url) => !url.startsWith('[fd00:10:96:'))
    for (const url of routed) {
      assert.equal(`${url} ${await eventually('hello', () => wget('on-node', url), 30_000)}`, `${url} hello`)
      for (const node of ['n1', 'n2']) {
        const { output } = await cluster.exec(node, [
          'timeout',
          '3',
          'busybox',
          'wget',
          '-qO-',
          `http://${url}`,
        ])
        assert.equal(`${node} ${url} ${output.trim()}`, `${node} ${url} hello`)
      }
    }
  })

  test('the API server reaches a pod, and a pod the API server', { timeout: 60_000 }, async () => {
    assert.equal(
      await kubectl(['get', '--raw', '/api/v1/namespaces/default/services/web:80/proxy/']),
      'hello',
    )
    const asks = 'echo | nc -w 3 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT >/dev/null && echo there'
    const ask = () => kubectl(['exec', 'client', '--', 'sh', '-c', asks])
    assert.equal(await eventually('there', ask, 30_000), 'there')
  })

  test('a Job ends, whose init container had its networks already', { timeout: 90_000 }, async () => {
    await kubectl(['wait', 'job/task', '--for=condition=Complete', '--timeout=60s'])
    const [pod] = await pods('job-name=task')
    const name = pod?.metadata.name ?? ''
    const [own] = endpointsOf(pod as Pod).filter((each) => each.interface === 'net1')
    assert.equal(await kubectl(['logs', name, '-c', 'first']), own?.addresses[0])
  })

  test('a pod asks the name servers of the Network that is its eth0', { timeout: 90_000 }, async () => {
    const dns = {
      nameservers: ['10.2.0.53', 'fd00:10:2::53'],
      searches: ['red.example'],
      options: ['ndots:2'],
    }
    await kubectl(['patch', 'network', 'red', '--type=merge', '-p', JSON.stringify({ spec: { dns } })])
    // Each replica of the webhook hears of that by itself.
    let made = 0
    const make = () =>
      kubectl(
        ['create', '-f', '-', '-o', 'jsonpath={.spec.dnsPolicy}'],
        idlePod(`asks-${++made}`, 'n1', 'red@eth0'),
      )
    assert.equal(await eventually('None', make, 30_000), 'None')
    await kubectl(['wait', 'pod', `asks-${made}`, '--for=condition=Ready', '--timeout=60s'])
    const written = await kubectl(['exec', `asks-${made}`, '--', 'cat', '/etc/resolv.conf'])
    assert.deepEqual(written.split('\n').sort(), [
      'nameserver 10.2.0.53',
      'nameserver fd00:10:2::53',
      'options ndots:2',
      'search red.example',
    ])
  })

  test('annotations limit what a pod may send and get, as long as it is there', {
    timeout: 90_000,
  }, async (t) => {
    const on = (...argv: string[]) => cluster.exec('n1', argv)
    const probe = await on('ip', 'link', 'add', 'probe', 'type', 'ifb')
    if (probe.exit !== 0) return t.skip('this kernel has no ifb')
    await on('ip', 'link', 'delete', 'probe')
    const limits = async () =>
      (await on('tc', 'qdisc')).output.match(/tbf .*? rate \S+/g)?.map((each) => each.split(' ').at(-1)) ?? []
    await kubectl(['apply', '-f', '-'], limited)
    await kubectl(['wait', 'pod', 'limited', '--for=condition=Ready', '--timeout=60s'])
    assert.deepEqual((await limits()).sort(), ['10Mbit', '20Mbit'])
    await kubectl(['delete', 'pod', 'limited', '--timeout=60s'])
    assert.equal(await eventually('', async () => (await limits()).join()), '')
  })

  test('a pod of a StatefulSet has its addresses on another node after a drain', {
    timeout: 150_000,
  }, async () => {
    const db = async () => (await pods('app=db'))[0] as Pod
    const before = await db()
    const node = before.spec.nodeName as string
    const on = (pod: Pod) => endpointsOf(pod).find((each) => each.interface === 'net1')?.addresses
    await kubectl([
      'drain',
      node,
      '--ignore-daemonsets',
      '--delete-emptydir-data',
      '--force',
      '--timeout=90s',
    ])
    try {
      await kubectl(['rollout', 'status', 'statefulset/db', '--timeout=60s'])
      const now = await db()
      assert.notEqual(now.spec.nodeName, node)
      assert.deepEqual(on(now), on(before))
    } finally {
      await kubectl(['uncordon', node])
    }
  })

  test('after it doctors have nothing to say', { timeout: 90_000 }, async () => {
    await kubectl(['delete', 'deploy,statefulset,job,pod', '--all', '--timeout=60s'])
    await kubectl(['wait', 'pods', '--all', '--for=delete', '--timeout=60s'])
    assert.deepEqual(await findings(kubectl), [])
  })
})

const image = 'image: busybox, imagePullPolicy: IfNotPresent'
const limited = `
apiVersion: v1
kind: Pod
metadata:
  name: limited
  annotations: { kubernetes.io/ingress-bandwidth: 10M, kubernetes.io/egress-bandwidth: 20M }
spec:
  nodeSelector: { kubernetes.io/hostname: n1 }
  terminationGracePeriodSeconds: 1
  containers: [{ name: main, ${image} }]
`
const workloads = `
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
        - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: { matchLabels: { app: web } } }
      containers:
        - name: main
          ${image.replace(', ', '\n          ')}
          command: [sh, -c, "mkdir /w; echo hello > /w/index.html; exec httpd -f -p 8080 -h /w"]
          readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 }
          livenessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ipFamilyPolicy: PreferDualStack, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: client }
spec: { terminationGracePeriodSeconds: 1, containers: [{ name: main, ${image} }] }
---
apiVersion: v1
kind: Pod
metadata: { name: on-node }
spec: { hostNetwork: true, terminationGracePeriodSeconds: 1, containers: [{ name: main, ${image} }] }
---
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: db }
spec:
  serviceName: db
  selector: { matchLabels: { app: db } }
  template:
    metadata: { labels: { app: db }, annotations: { k8s.v1.cni.cncf.io/networks: blue } }
    spec: { terminationGracePeriodSeconds: 1, containers: [{ name: main, ${image} }] }
---
apiVersion: batch/v1
kind: Job
metadata: { name: task }
spec:
  template:
    metadata: { annotations: { k8s.v1.cni.cncf.io/networks: blue } }
    spec:
      restartPolicy: Never
      initContainers:
        - { name: first, ${image}, command: [sh, -c, "ip -4 addr show net1 | sed -n 's/.*inet \\\\([0-9.]*\\\\).*/\\\\1/p'"] }
      containers: [{ name: main, ${image}, command: ['true'] }]
---`
