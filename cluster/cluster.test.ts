import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { saveImage } from '../images/save.ts'
import { clusterDir, clusters, findCluster, initOf } from './boot.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { busyboxPath, imageOf, programAt } from './images.ts'

const name = 'test'
let cluster: Cluster
let earlier: Record<string, string[]>

/** What a kubelet would change for the whole machine. */
const settings = [
  'vm/overcommit_memory',
  'kernel/panic',
  'kernel/panic_on_oops',
  'kernel/keys/root_maxkeys',
  'kernel/keys/root_maxbytes',
]

/** What a cluster could leave on this machine; other clusters' own is theirs. */
function traces(): Record<string, string[]> {
  const processes = globSync('/proc/[0-9]*/cmdline').flatMap((path) => {
    try {
      return [readFileSync(path, 'utf8').replaceAll('\0', ' ').trim()]
    } catch {
      return []
    }
  })
  return {
    processes: processes.filter((line) => line.includes(clusterDir(name))).sort(),
    mounts: readFileSync('/proc/self/mounts', 'utf8').trim().split('\n').sort(),
    namespaces: globSync('/run/netns/*').sort(),
    cgroups: globSync(`/sys/fs/cgroup/{*,*/*}`)
      .filter((path) => path.endsWith(`/polynet-${name}`))
      .sort(),
    links: execFileSync('ip', ['-brief', 'link'], { encoding: 'utf8' }).trim().split('\n').sort(),
    folders: globSync(clusterDir(name)),
    settings: settings.map((path) => `${path} ${readFileSync(`/proc/sys/${path}`, 'utf8').trim()}`),
  }
}

const kubectl = (...args: string[]): string =>
  execFileSync(cluster.kubectl, args, {
    encoding: 'utf8',
    env: { ...process.env, KUBECONFIG: cluster.kubeconfig },
    stdio: ['ignore', 'pipe', 'inherit'],
  }).trim()

/** What `ask` says once it says `want`; whatever it says last after 30 s. */
async function eventually(want: string, ask: () => string): Promise<void> {
  let said = ''
  for (const until = Date.now() + 30_000; Date.now() < until; await new Promise((r) => setTimeout(r, 200))) {
    try {
      said = ask()
    } catch (error) {
      said = String(error)
    }
    if (said === want) return
  }
  assert.equal(said, want)
}

before(async () => {
  await clusters()
  earlier = traces()
  cluster = await startCluster({ name, defaultNetwork: 'bridge', say: console.error })
  const manifest = join(clusterDir(name), 'pods.yaml')
  writeFileSync(manifest, pods)
  kubectl('apply', '-f', manifest)
  kubectl('wait', '--for=condition=Ready', 'pods', '--all', '-A', '--timeout=60s')
})

after(async () => {
  await cluster?.close()
})

test('nodes are Ready, each with its own addresses', () => {
  const columns = 'NAME:.metadata.name,ADDRESSES:.status.addresses[?(@.type=="InternalIP")].address'
  assert.equal(
    kubectl('get', 'nodes', '--no-headers', '-o', `custom-columns=${columns}`).replace(/ +/g, ' '),
    'n1 192.168.1.11,fd00:192:168:1::11\nn2 192.168.1.12,fd00:192:168:1::12',
  )
})

test('logs and exec work', () => {
  assert.equal(kubectl('logs', 'web'), 'started')
  assert.equal(kubectl('exec', 'client', '--', 'hostname'), 'client')
})

test('a pod reaches one of another node, by address in both families, by Service and by name', async () => {
  const ips = JSON.parse(kubectl('get', 'pod', 'web', '-o', 'json')).status.podIPs as { ip: string }[]
  const services = JSON.parse(kubectl('get', 'service', 'web', '-o', 'json')).spec.clusterIPs as string[]
  const urls = [
    ...ips.map(({ ip }) => (ip.includes(':') ? `[${ip}]:8080` : `${ip}:8080`)),
    ...services.map((ip) => (ip.includes(':') ? `[${ip}]` : ip)),
    'web.default.svc.cluster.local',
  ]
  assert.equal(urls.length, 5)
  for (const url of urls)
    await eventually('hello', () => kubectl('exec', 'client', '--', 'wget', '-qO-', `http://${url}`))
})

test('a pod reaches the API server by its Service, with the certificate that it is given', async () => {
  const script =
    'echo | nc -w 2 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT >/dev/null && ls /var/run/secrets/kubernetes.io/serviceaccount'
  await eventually('ca.crt\nnamespace\ntoken', () => kubectl('exec', 'client', '--', 'sh', '-c', script))
})

test('the API server reaches a pod', () => {
  assert.equal(kubectl('get', '--raw', '/api/v1/namespaces/default/services/web:80/proxy/'), 'hello')
})

test('a node has its own /run, /etc/cni and /opt/cni, and a pod can give it mounts', () => {
  const script = [
    'chroot /host hostname',
    'ls /host/etc/cni/net.d',
    'ls -d /host/opt/cni/bin/bridge',
    'cut -d" " -f1 /host/proc/sys/kernel/random/boot_id',
    'mkdir -p /host/run/polynet && mount -t tmpfs given /host/run/polynet',
  ]
  const bootId = readFileSync(join(clusterDir(name), 'nodes/n1/proc/kernel/random/boot_id'), 'utf8').trim()
  assert.equal(
    kubectl('exec', 'agent', '--', 'sh', '-c', script.join('\n')),
    ['n1', '20-bridge.conflist', '/host/opt/cni/bin/bridge', bootId].join('\n'),
  )
  return cluster.exec('n1', ['findmnt', '-no', 'SOURCE', '/run/polynet']).then(({ output }) => {
    assert.equal(output.trim(), 'given')
  })
})

test('a rebooted node comes back with what is on its disk, and nothing that was in memory', async () => {
  await cluster.exec('n2', ['sh', '-c', 'echo disk > /var/lib/kept; echo memory > /run/lost'])
  await cluster.reboot('n2')
  const { output } = await cluster.exec('n2', ['sh', '-c', 'cat /var/lib/kept; ls /run/lost 2>&1'])
  assert.match(output, /^disk\nls: cannot access '\/run\/lost'/)
  await eventually('hello', () => kubectl('exec', 'client', '--', 'wget', '-qO-', 'http://web'))
})

test('an image that a node was given runs there', async () => {
  const tar = join(clusterDir(name), 'image.tar')
  const given = imageOf('localhost/given:1', [programAt('echo', busyboxPath())], {
    entrypoint: ['/echo', 'given'],
  })
  saveImage(given, tar)
  await cluster.loadImage('n1', tar)
  const overrides = JSON.stringify({ apiVersion: 'v1', spec: { nodeName: 'n1' } })
  kubectl('run', 'given', '--image=localhost/given:1', '--restart=Never', `--overrides=${overrides}`)
  await eventually('given', () => kubectl('logs', 'given'))
})

test('the API server goes and comes, and what etcd stored can be put back', async () => {
  await cluster.saveEtcd('before')
  kubectl('create', 'configmap', 'later')
  await cluster.stopApi()
  assert.throws(() => kubectl('get', 'nodes', '--request-timeout=2s'))
  await cluster.startApi()
  assert.equal(kubectl('get', 'configmap', 'later', '-o', 'name'), 'configmap/later')
  await cluster.restoreEtcd('before')
  assert.equal(kubectl('get', 'configmap', 'later', '--ignore-not-found'), '')
})

test('nothing is left when it is down', async () => {
  await cluster.close()
  assert.deepEqual(traces(), earlier)
})

test('what a killed one leaves is removed by the next command', async () => {
  const script = `import { startCluster } from ${JSON.stringify(join(import.meta.dirname, 'cluster.ts'))}
    await startCluster({ name: ${JSON.stringify(name)}, nodes: 1 }); console.log('up'); setInterval(() => {}, 1000)`
  const starter = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await new Promise((resolve) => starter.stdout.once('data', resolve))
  assert.equal((await findCluster(name)).prefixOf !== undefined, true)
  const init = initOf(name)
  starter.kill('SIGKILL')
  await eventually('gone', () => (spawnSync('kill', ['-0', String(init)]).status === 0 ? 'there' : 'gone'))
  assert.ok(!(await clusters()).includes(name))
  assert.deepEqual(traces(), earlier)
})

test('flannel as the default network carries pods between nodes', async () => {
  cluster = await startCluster({ name, defaultNetwork: 'flannel', say: console.error })
  const manifest = join(clusterDir(name), 'pods.yaml')
  writeFileSync(manifest, pods)
  kubectl('apply', '-f', manifest)
  kubectl('wait', '--for=condition=Ready', 'pods', '--all', '-A', '--timeout=60s')
  await eventually('hello', () => kubectl('exec', 'client', '--', 'wget', '-qO-', 'http://web'))
})

const pods = `
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec:
  nodeName: n1
  containers:
    - name: web
      image: busybox
      imagePullPolicy: IfNotPresent
      command: [sh, -c, "mkdir /w; echo hello > /w/index.html; echo started; exec httpd -f -p 8080 -h /w"]
      readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Pod
metadata: { name: client }
spec:
  nodeName: n2
  containers: [{ name: client, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, infinity] }]
---
apiVersion: v1
kind: Pod
metadata: { name: agent }
spec:
  nodeName: n1
  hostNetwork: true
  hostPID: true
  containers:
    - name: agent
      image: busybox
      imagePullPolicy: IfNotPresent
      command: [sleep, infinity]
      securityContext: { privileged: true }
      volumeMounts: [{ name: host, mountPath: /host, mountPropagation: Bidirectional }]
  volumes: [{ name: host, hostPath: { path: / } }]
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ipFamilyPolicy: PreferDualStack, ports: [{ port: 80, targetPort: 8080 }] }
`
