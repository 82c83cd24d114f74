import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Pod } from '../src/api/core.ts'
import { toolDir } from './build.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { installPolynet } from './install.ts'
import { agentPods, blueAndRed, eventually, findings, idlePod, type Kubectl, kubectlOf } from './kubectl.ts'

/** One cluster, Polynet its only network, and everything that may befall it. After each of these all agree again. */
suite('bad days', { concurrency: 1 }, () => {
  let cluster: Cluster
  let kubectl: Kubectl
  let ctr: string[]

  before(async () => {
    ctr = [join(await toolDir('containerd'), 'ctr'), '-n', 'k8s.io']
    cluster = await startCluster({ name: `bad-days-${process.pid}`, nodes: 3, defaultNetwork: 'none' })
    kubectl = kubectlOf(cluster)
    await installPolynet(cluster)
    await apply(blueAndRed, idlePod('one', 'n1', 'blue,red'), idlePod('two', 'n2', 'blue,red'))
    await ready('one', 'two')
  })
  after(async () => {
    await cluster?.close()
  })

  const apply = (...manifests: string[]) => kubectl(['apply', '-f', '-'], manifests.join(''))
  const ready = (...pods: string[]) =>
    kubectl(['wait', 'pods', ...pods, '--for=condition=Ready', '--timeout=90s'])
  const gone = (...pods: string[]) => kubectl(['delete', 'pods', ...pods, '--timeout=60s'])
  const field = (pod: string, path: string) => kubectl(['get', 'pod', pod, '-o', `jsonpath={${path}}`])
  const restarts = '.status.containerStatuses[0].restartCount'
  const on = async (node: string, script: string) => {
    const { exit, output } = await cluster.exec(node, ['sh', '-c', script])
    assert.equal(exit, 0, `${node}: ${script}: ${output}`)
    return output.trim()
  }

  /** All of a pod's addresses, by interface. */
  const addresses = async (pod: string): Promise<string[]> =>
    (
      JSON.parse(await field(pod, '.metadata.annotations.k8s\\.v1\\.cni\\.cncf\\.io/network-status')) as {
        interface: string
        ips: string[]
      }[]
    ).map((each) => `${each.interface} ${each.ips.join(' ')}`)

  /** Pings every address in the first pod's network namespace; those that do not answer. */
  const silent = async (uid: string, targets: string[]): Promise<string[]> => {
    const ips = targets.flatMap((target) => target.split(' ').slice(1))
    const asked = ips.map(async (ip) => {
      const { exit } = await cluster.execInPod(uid, ['ping', '-c1', '-W3', ip])
      return exit === 0 ? [] : [ip]
    })
    return (await Promise.all(asked)).flat()
  }

  /** The pods that were there before still talk, on all of their networks, and nobody has found anything. */
  const well = async () => {
    assert.deepEqual(await silent(await field('one', '.metadata.uid'), await addresses('two')), [])
    const agents = `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`
    assert.equal(
      await eventually('True True True', () => kubectl([...agentPods, '-o', agents])),
      'True True True',
    )
    assert.deepEqual(await findings(kubectl), [])
  }

  test('agents are killed while a hundred pods come and go', { timeout: 400_000 }, async () => {
    const over = new AbortController()
    let killed = 0
    /** How often the node's agent was started again; undefined while it is not ready. */
    const readyAfter = async (node: string): Promise<number | undefined> => {
      const asked = await kubectl([...agentPods, `--field-selector=spec.nodeName=${node}`, '-o', 'json'])
      const [container] = (JSON.parse(asked).items as Pod[])[0]?.status?.containerStatuses ?? []
      return container?.ready ? container.restartCount : undefined
    }
    const killing = (async () => {
      const startedAgain = new Map<string, number>()
      for (let i = 0; !over.signal.aborted; i++) {
        const node = `n${(i % 3) + 1}`
        const times = await readyAfter(node)
        // One that is killed before it is ready would get nowhere on a busy machine.
        if (times !== undefined && times > (startedAgain.get(node) ?? -1)) {
          startedAgain.set(node, times)
          killed += await cluster.killAgent(node)
        }
        await sleep(2000)
      }
    })()
    killing.catch(() => {})
    try {
      await apply(many)
      await kubectl(['rollout', 'status', 'deploy/many', '--timeout=240s'])
      await kubectl(['delete', 'deploy', 'many', '--cascade=foreground', '--timeout=120s'])
    } finally {
      over.abort()
      await killing
    }
    assert.ok(killed > 3, `${killed} killed`)
    await well()
  })

  test('the API server is away', { timeout: 200_000 }, async () => {
    const before = [await addresses('one'), await addresses('two')]
    const uid = await field('one', '.metadata.uid')
    const container = await field('one', '.status.containerStatuses[0].containerID')
    await cluster.stopApi()
    try {
      await on('n1', `${ctr.join(' ')} task kill -s SIGKILL ${container.replace('containerd://', '')}`)
      assert.equal(await cluster.killAgent('n2'), 1)
      await cluster.restart('n2', 'containerd')
      assert.equal(await on('n1', collect(ctr)), '')
      for (let second = 0; second < 30; second += 5) {
        assert.deepEqual(await silent(uid, before[1]!), [])
        await sleep(5000)
      }
    } finally {
      await cluster.startApi()
    }
    assert.equal(await eventually('1', () => field('one', restarts)), '1')
    assert.deepEqual([await addresses('one'), await addresses('two')], before)
    await apply(idlePod('later', 'n2', 'blue'))
    await ready('later')
    await gone('later')
    await well()
  })

  test('a node is rebooted, and its pods come back with the addresses kept for them', {
    timeout: 200_000,
  }, async () => {
    await apply(keepers)
    await kubectl(['rollout', 'status', 'statefulset/db', '--timeout=90s'])
    await ready('vm')
    const kept = async () =>
      [await addresses('db-0'), await addresses('vm')].map((each) =>
        each.find((text) => text.startsWith('net1')),
      )
    const before = await kept()
    const times = async () =>
      Number(await field('vm', restarts)) > 0 && Number(await field('db-0', restarts)) > 0
    await cluster.reboot('n3')
    assert.equal(await eventually(true, times, 90_000), true)
    await ready('db-0', 'vm')
    assert.deepEqual(await kept(), before)
    assert.deepEqual(await silent(await field('one', '.metadata.uid'), before as string[]), [])
    await kubectl(['delete', 'statefulset/db', 'pod/vm', 'ipamclaim/vm', '--timeout=60s'])
    await kubectl(['wait', 'pod/db-0', '--for=delete', '--timeout=60s'])
    await well()
  })

  test('the webhook is away', { timeout: 150_000 }, async () => {
    const scale = async (replicas: number) => {
      await kubectl(['-n', 'polynet-system', 'scale', 'deploy/polynet-webhook', `--replicas=${replicas}`])
    }
    const count = () =>
      kubectl([
        '-n',
        'polynet-system',
        'get',
        'pods',
        '-l',
        'app.kubernetes.io/component=webhook',
        '-o',
        'name',
      ])
    await scale(0)
    assert.equal(await eventually('', count), '')
    try {
      await apply(idlePod('plain', 'n1'))
      await ready('plain')
      await assert.rejects(apply(idlePod('asking', 'n1', 'blue')), /failed calling webhook .*polynet/)
    } finally {
      await scale(2)
    }
    const asking = await eventually(true, async () => (await apply(idlePod('asking', 'n1', 'blue'))) !== '')
    assert.equal(asking, true)
    await ready('asking')
    await gone('plain', 'asking')
    await well()
  })

  test("other plugins' confs appear before ours and after it", { timeout: 150_000 }, async () => {
    const files = () => on('n1', 'ls /etc/cni/net.d | tr "\\n" " "')
    const put = (name: string) =>
      on('n1', `echo '${otherConf}' > /tmp/new.conf; mv /tmp/new.conf /etc/cni/net.d/${name}`)
    assert.equal(await files(), '00-polynet.conflist')
    for (const [name, want] of [
      ['99-other.conflist', '00-polynet.conflist 99-other.conflist'],
      ['00-other.conflist', '0-polynet.conflist 00-other.conflist'],
    ] as const) {
      await put(name)
      assert.equal(await eventually(want, files), want)
      await apply(idlePod('both', 'n1', 'blue'))
      await ready('both')
      const [eth0, net1] = await addresses('both')
      assert.match(`${eth0}; ${net1}`, /^eth0 10\.99\.0\.\d+; net1 10\.1\./)
      await on('n1', `rm /etc/cni/net.d/${name}`)
      assert.equal(await eventually('00-polynet.conflist', files), '00-polynet.conflist')
      await gone('both')
      assert.equal(await on('n1', 'ls /var/lib/cni/networks/other | grep -c "^10" || true'), '0')
    }
    const told = await kubectl([
      'get',
      'events',
      '-A',
      '--field-selector',
      'reason=CNIConfBefore',
      '-o',
      'name',
    ])
    assert.notEqual(told, '')
    await well()
  })

  test('the controller that leads is killed', { timeout: 150_000 }, async () => {
    const leader = async () => {
      const lease = ['-n', 'polynet-system', 'get', 'lease', 'polynet-controller']
      return kubectl([...lease, '-o', 'jsonpath={.spec.holderIdentity}'])
    }
    const first = await leader()
    await kubectl([
      '-n',
      'polynet-system',
      'delete',
      'pod',
      first.split('_')[0]!,
      '--grace-period=0',
      '--force',
    ])
    await apply(green)
    const status = () =>
      kubectl(['get', 'network', 'green', '-o', 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'])
    assert.equal(await eventually('True', status), 'True')
    assert.notEqual(await leader(), first)
    await kubectl(['delete', 'network', 'green', '--timeout=60s'])
    await well()
  })

  test('etcd is restored from an older snapshot', { timeout: 200_000 }, async () => {
    await apply(lan, idlePod('left', 'n1', 'lan'), idlePod('right', 'n2', 'lan'))
    await ready('left', 'right')
    assert.equal(await eventually('', async () => (await findings(kubectl)).join('\n')), '')
    const slices = [
      'get',
      'attachmentslices',
      '-o',
      'jsonpath={.items[?(@.network=="lan")].attachments[*].pod}',
    ]
    const told = async () => (await kubectl(slices)).split(' ').sort().join(' ')
    assert.equal(await eventually('left right', told), 'left right')
    // What this etcd lacks of who is where is written again, now and once it is back.
    await kubectl(['delete', 'attachmentslices', '--all'])
    await cluster.saveEtcd('older')
    assert.equal(await eventually('left right', told), 'left right')
    await apply(idlePod('forgotten-1', 'n1', 'blue'), idlePod('forgotten-2', 'n2', 'blue'))
    await ready('forgotten-1', 'forgotten-2')
    await cluster.restoreEtcd('older')
    // Kubelets wait for what is newer than anything that this etcd will have for a while; restarted, they read all.
    for (const node of await cluster.nodes()) await cluster.restart(node, 'kubelet')
    await apply(idlePod('new-1', 'n1', 'blue,red'), idlePod('new-2', 'n2', 'blue'))
    await ready('new-1', 'new-2')
    const uid = await field('new-1', '.metadata.uid')
    assert.deepEqual(await silent(uid, [...(await addresses('new-2')), ...(await addresses('two'))]), [])
    assert.equal(await eventually('left right', told), 'left right')
    assert.deepEqual(await silent(await field('left', '.metadata.uid'), await addresses('right')), [])
    assert.deepEqual(await eventually('', async () => (await findings(kubectl)).join('\n')), '')
    await gone('new-1', 'new-2', 'left', 'right')
    await kubectl(['delete', 'network', 'lan', '--timeout=60s'])
    await well()
  })

  test('the disk with the journal is full', { timeout: 200_000 }, async () => {
    const lib = '/var/lib/polynet'
    await on(
      'n3',
      `cp -a ${lib} /run/kept && mount -t tmpfs -o size=4m,mode=700 small ${lib} && cp -a /run/kept/. ${lib}`,
    )
    const agent = await kubectl([...agentPods, '--field-selector=spec.nodeName=n3', '-o', 'name'])
    await kubectl(['-n', 'polynet-system', 'delete', agent, '--timeout=60s'])
    await apply(idlePod('held', 'n3', 'blue'))
    await ready('held')
    await on('n3', `dd if=/dev/zero of=${lib}/fill bs=4k 2>/dev/null; [ -s ${lib}/fill ]`)
    await apply(idlePod('waits', 'n3', 'blue'))
    const told = async () => /the disk is full; make room/.test(await kubectl(['describe', 'pod', 'waits']))
    assert.equal(await eventually(true, told), true, await kubectl(['describe', 'pod', 'waits']))
    assert.deepEqual(await silent(await field('one', '.metadata.uid'), await addresses('held')), [])
    // What its ADDs have leased goes back by itself, whether or not somebody asks again.
    await kubectl(['delete', 'pod', 'waits', '--wait=false'])
    await on('n3', `rm ${lib}/fill`)
    await kubectl(['wait', 'pod/waits', '--for=delete', '--timeout=120s'])
    assert.equal(await eventually('', async () => (await findings(kubectl)).join('\n')), '')
    await apply(idlePod('waits', 'n3', 'blue'))
    await ready('waits')
    await gone('waits', 'held')
    await well()
  })
})

const many = `
apiVersion: apps/v1
kind: Deployment
metadata: { name: many }
spec:
  replicas: 100
  selector: { matchLabels: { app: many } }
  template:
    metadata: { labels: { app: many }, annotations: { k8s.v1.cni.cncf.io/networks: blue } }
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{ name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, infinity] }]
---`

const keepers = `
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: db }
spec:
  serviceName: db
  selector: { matchLabels: { app: db } }
  template:
    metadata: { labels: { app: db }, annotations: { k8s.v1.cni.cncf.io/networks: blue } }
    spec:
      nodeSelector: { kubernetes.io/hostname: n3 }
      terminationGracePeriodSeconds: 1
      containers: [{ name: main, image: busybox, imagePullPolicy: IfNotPresent }]
---
apiVersion: k8s.cni.cncf.io/v1alpha1
kind: IPAMClaim
metadata: { name: vm }
spec: { network: red, interface: net1 }
---${idlePod('vm', 'n3', '[{"name": "red", "ipam-claim-reference": "vm"}]')}`

const green = `
apiVersion: polynet.dev/v1alpha1
kind: Network
metadata: { name: green }
spec: { subnets: [{ cidr: 10.1.0.0/16 }] }
`

const lan = `
apiVersion: polynet.dev/v1alpha1
kind: Network
metadata: { name: lan }
spec: { topology: Layer2, subnets: [{ cidr: 10.1.0.0/16 }] }
---`

/** What a runtime asks for that collects garbage: all that is no container of its own is to go. */
const collect = (ctr: string[]): string => `
valid=$(${ctr.join(' ')} containers ls -q 2>/dev/null | sed 's/.*/{"containerID":"&","ifname":"eth0"}/' | paste -sd,)
echo '{"cniVersion":"1.1.0","name":"polynet","type":"polynet-cni","cni.dev/valid-attachments":['"$valid"']}' |
  CNI_COMMAND=GC CNI_PATH=/opt/cni/bin /opt/cni/bin/polynet-cni`

const otherConf = JSON.stringify({
  cniVersion: '1.0.0',
  name: 'other',
  plugins: [{ type: 'ptp', ipam: { type: 'host-local', ranges: [[{ subnet: '10.99.0.0/24' }]] } }],
})
