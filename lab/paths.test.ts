import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { after, before, test } from 'node:test'
import { say } from '../scenarios/kubectl.ts'
import type { Condition } from '../src/api/meta.ts'
import { bootLab, labDir } from './boot.ts'
import type { Controlled } from './control.ts'
import { wayIn } from './enter.ts'
import { type Endpoint, endpointsOf } from './reach.ts'

/**
 * What nodes have beside Polynet: narrow links on the way, and other
 * programs' tunnels. Real packets, and transfers that have to end.
 */

const way = wayIn()
const skip =
  way.how === 'none' ? way.why : spawnSync('ip', ['-V']).status === 0 ? false : 'iproute2 is not installed'
const name = `paths-${process.pid}`
const dir = labDir(name)

const cluster = `---
apiVersion: polynet.dev/v1alpha1
kind: Network
metadata: { name: blue }
spec: { subnets: [{ cidr: 10.1.0.0/16 }, { cidr: "fd00:10:1::/64" }] }
---
apiVersion: polynet.dev/v1alpha1
kind: Network
metadata: { name: flat }
spec: { topology: Layer2, subnets: [{ cidr: 10.3.0.0/16 }, { cidr: "fd00:10:3::/64" }] }
---
apiVersion: polynet.dev/v1alpha1
kind: PhysicalNetwork
metadata: { name: phy-net0 }
spec: { tunnelPort: 14800, nics: [{ match: { name: eth1 } }] }
---
apiVersion: polynet.dev/v1alpha1
kind: Network
metadata: { name: red }
spec: { physicalNetwork: phy-net0, subnets: [{ cidr: 10.2.0.0/16 }, { cidr: "fd00:10:2::/64" }] }
`
const pod = (name: string, node: string, networks: string) => `---
apiVersion: v1
kind: Pod
metadata: { name: ${name}, annotations: { networks: "${networks}" } }
spec: { nodeSelector: { kubernetes.io/hostname: ${node} }, containers: [{ name: main, image: busybox }] }
`

let lab: Controlled
let endpoints: Endpoint[] = []

before(async () => {
  if (way.how === 'none' || skip) return
  lab = (await bootLab(way, { name, wiring: { nodes: ['n1', 'n2'], nics: ['eth1'] } })).place
  const pods = [pod('web', 'n1', 'blue:eth1 flat:eth2'), pod('far', 'n2', 'blue:eth1 flat:eth2')]
  await say(lab, 'apply -f -', cluster + pods.join(''))
  await say(lab, 'wait pods --all --for=condition=Ready')
  endpoints = JSON.parse(await say(lab, 'get pods -o json')).items.flatMap(endpointsOf)
})
after(() => lab?.close())

/** Runs a shell's lines in a namespace of the lab's machines: `n1`, `switch-eth0`. */
async function at(netns: string, ...lines: string[]): Promise<string> {
  const entered = ['nsenter', `--net=${dir}/netns/${netns}`, 'sh', '-ec', lines.join('\n')]
  const { exit, output } = await lab.exec('default/web', entered)
  assert.equal(exit, 0, `${lines.join('\n')}: ${output}`)
  return output
}

const addressOf = (pod: string, device: string, family: 4 | 6): string =>
  endpoints
    .find((each) => each.pod === `default/${pod}` && each.interface === device)!
    .addresses.find((each) => each.includes(':') === (family === 6))!

const size = 1_000_000
const port = 20780

/** Takes what anybody sends, and says how much it was. In the background: a shell's line. */
const server = `${process.execPath} -e "
  require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
    let taken = 0;
    socket.on('error', () => {}).on('data', (data) => { taken += data.length }).on('end', () => socket.end(String(taken)))
  }).listen(${port}, '::')" > /dev/null 2>&1 < /dev/null &`

/** Sends a megabyte; what the other end says it got, or why not. */
async function transfer(from: string, device: string, to: string): Promise<string> {
  const localAddress = addressOf(from, device, to.includes(':') ? 6 : 4)
  const client = `
    const send = () => require('node:net').connect({ host: '${to}', port: ${port}, localAddress: '${localAddress}' })
      .on('error', ({ code }) => {
        // It may be about to start.
        if (code === 'ECONNREFUSED') setTimeout(send, 100)
        else { console.log(code); process.exit() }
      })
      .on('data', (data) => { console.log(String(data)); process.exit() })
      .end(Buffer.alloc(${size}))
    setTimeout(() => { console.log('nothing came back'); process.exit() }, 60_000)
    send()`
  const { output } = await lab.exec(`default/${from}`, [process.execPath, '-e', client])
  return output.trim()
}

/** A machine behind the router, over a link that carries packets of 1300 bytes. */
async function beyond(): Promise<void> {
  const hosts = Array.from({ length: 3 }, (_, i) => i + 1)
  await at(
    'switch-eth0',
    `unshare --net ${server}`,
    'pid=$!',
    'until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done',
    'ip link add small mtu 1300 type veth peer name far mtu 1300',
    'ip link set far netns $pid',
    'ip address add 198.51.100.254/24 dev small',
    'ip address add 2001:db8::fe/64 dev small nodad',
    'ip link set small up',
    'ip address add fd00:192:168:1::1/64 dev switch nodad',
    'echo 1 > /proc/sys/net/ipv4/ip_forward',
    'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding',
    'beyond="nsenter --net=/proc/$pid/ns/net"',
    ...hosts.map((n) => `$beyond ip address add 198.51.100.${n}/24 dev far`),
    ...hosts.map((n) => `$beyond ip address add 2001:db8::${n}/64 dev far nodad`),
    '$beyond ip link set far up',
    // It says that it takes larger ones, as machines behind a narrow link do.
    '$beyond ip route add default via 198.51.100.254 advmss 1460',
    '$beyond ip -6 route add default via 2001:db8::fe advmss 1440',
  )
  await at(
    'n1',
    'ip address add fd00:192:168:1::11/64 dev eth0 nodad',
    'ip -6 route add default via fd00:192:168:1::1',
  )
}

test('what is too large for a link outside is told of through both translations, and transfers end', {
  skip,
}, async () => {
  await beyond()
  // An address of its own for each: what was learned of one path says nothing of the next.
  for (const [i, device] of ['eth0', 'eth1', 'eth2'].entries())
    for (const [family, to] of [
      [4, `198.51.100.${i + 1}`],
      [6, `2001:db8::${i + 1}`],
    ] as const) {
      assert.equal(await transfer('web', device, to), String(size), `${device} to ${to}`)
      const { output } = await lab.exec(
        'default/web',
        `ip -${family} route get ${to} from ${addressOf('web', device, family)}`.split(' '),
      )
      assert.match(output, / mtu 1300/, `${device} to ${to}`)
    }
})

test('transfers between nodes end where a NIC came to carry less than the networks were planned for', {
  skip,
}, async () => {
  assert.equal((await lab.exec('default/far', ['sh', '-c', server])).exit, 0)
  await at('n1', 'ip link set eth0 mtu 1400')
  try {
    for (const device of ['eth0', 'eth1', 'eth2'])
      for (const family of [4, 6] as const)
        assert.equal(
          await transfer('web', device, addressOf('far', device, family)),
          String(size),
          `${device} ${family}`,
        )
  } finally {
    await at('n1', 'ip link set eth0 mtu 1500')
  }
})

/** The condition Ready of n1's HostPhysicalNetwork, once it is so. */
async function readyOf(status: string): Promise<Condition> {
  for (const until = performance.now() + 60_000; ; ) {
    const host = JSON.parse(await say(lab, 'get hostphysicalnetwork n1 -o json'))
    const ready = (host.status?.conditions as Condition[] | undefined)?.find(({ type }) => type === 'Ready')
    if (ready?.status === status) return ready
    assert.ok(performance.now() < until, JSON.stringify(ready))
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

test("another program's VXLAN device that shares its port with nobody is named, and keeps no other network from pods", {
  skip,
}, async () => {
  await readyOf('True')
  await at(
    'n1',
    'ip link add cilium_vxlan type vxlan external dstport 14800 nolearning',
    'ip link set cilium_vxlan up',
  )
  const { message } = await readyOf('False')
  assert.equal(
    message,
    'phy-net0: cilium_vxlan has UDP port 14800 for itself and shares it with no other VXLAN device; give that another port, or use a PhysicalNetwork with another spec.tunnelPort than phy-net0 has',
  )
  await say(lab, 'apply -f -', pod('late', 'n1', 'red:eth1') + pod('other', 'n1', 'blue:eth1'))
  await say(lab, 'wait pod other --for=condition=Ready')
  await at('n1', 'ip link delete cilium_vxlan')
  await readyOf('True')
  await say(lab, 'wait pod late --for=condition=Ready --timeout=60s')
})

test('a plain VXLAN device on the port of ours carries its own packets and leaves ours alone', {
  skip,
}, async () => {
  for (const [node, own, other] of [
    ['n1', 11, 12],
    ['n2', 12, 11],
  ] as const)
    await at(
      node,
      `ip link add flannel.1 type vxlan id 1 dstport 14800 local 192.168.1.${own} remote 192.168.1.${other} dev eth0`,
      `ip address add 172.31.0.${own}/24 dev flannel.1`,
      'ip link set flannel.1 up',
    )
  await say(lab, 'apply -f -', pod('near-red', 'n1', 'red:eth1') + pod('far-red', 'n2', 'red:eth1'))
  await say(lab, 'wait pod near-red far-red --for=condition=Ready')
  await readyOf('True')
  const red = (await lab.reach(['default/near-red', 'default/far-red'])).filter(
    ({ from, to }) => from.network === 'default/red' && to.network === 'default/red',
  )
  assert.equal(red.length, 4)
  assert.deepEqual(
    red.map(({ answeredBy }) => answeredBy),
    red.map(({ to }) => to.pod),
  )
  assert.match(await at('n1', 'ping -c 1 -W 30 172.31.0.12'), / 0% packet loss/)
})
