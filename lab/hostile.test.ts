import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { say } from '../scenarios/kubectl.ts'
import type { Pod } from '../src/api/core.ts'
import { bytesOf, parseAddress } from '../src/lib/ip.ts'
import { gatewayMac, macBytes } from '../src/lib/mac.ts'
import { newConnections } from '../src/plan/ceiling.ts'
import { bootLab, labDir } from './boot.ts'
import type { Controlled } from './control.ts'
import { wayIn } from './enter.ts'
import { udpFrame } from './frame.ts'
import type { Attack } from './hostile.ts'
import { type Endpoint, endpointsOf } from './reach.ts'
import { macOf } from './wires.ts'

/**
 * What a pod with NET_RAW and NET_ADMIN puts on its own interfaces, and what
 * somebody on a wire puts there. Each is a frame that was really sent, and
 * every receiver really listens; before it, one that must arrive does.
 */

const way = wayIn()
const skip = way.how === 'none' ? way.why : false
const name = `hostile-${process.pid}`
const dir = labDir(name)
const tunnelPort = 14789
const nodeAddress = { n1: '192.168.1.11', n2: '192.168.1.12' }
const everyone = 'ff:ff:ff:ff:ff:ff'

const network = (name: string, ipv4: string, ipv6: string, more = '') => `---
apiVersion: polynet.dev/v1alpha1
kind: Network
metadata: { name: ${name} }
spec: { subnets: [{ cidr: ${ipv4} }, { cidr: "${ipv6}" }]${more} }
`
const pod = (name: string, node: string, networks: string) => `---
apiVersion: v1
kind: Pod
metadata: { name: ${name}, annotations: { networks: "${networks}" } }
spec: { nodeSelector: { kubernetes.io/hostname: ${node} }, containers: [{ name: main, image: busybox }] }
`
const cluster = [
  network('blue', '10.1.0.0/16', 'fd00:10:1::/64'),
  network('red', '10.2.0.0/16', 'fd00:10:2::/64'),
  network('flat', '10.3.0.0/16', 'fd00:10:3::/64', ', topology: Layer2'),
  pod('evil', 'n1', 'blue:eth1 flat:eth2'),
  pod('friend', 'n2', 'blue:eth1'),
  pod('victim', 'n1', 'red:eth1'),
  pod('far-victim', 'n2', 'red:eth1'),
  pod('near', 'n1', 'flat:eth1'),
  pod('far', 'n2', 'flat:eth1'),
].join('')

let lab: Controlled
let endpoints: Endpoint[] = []
const vni: Record<string, number> = {}
const netns: Record<string, string> = {}

before(async () => {
  if (way.how === 'none') return
  lab = (await bootLab(way, { name, wiring: { nodes: ['n1', 'n2'], nics: ['eth1', 'eth2'] } })).place
  await say(lab, 'apply -f -', cluster)
  await say(lab, 'wait pods --all --for=condition=Ready')
  const { items } = JSON.parse(await say(lab, 'get pods -o json')) as { items: Pod[] }
  endpoints = items.flatMap(endpointsOf)
  for (const { metadata } of items) netns[metadata.name] = await lab.netnsOf(`default/${metadata.name}`)
  for (const each of ['blue', 'red', 'flat'])
    vni[each] = Number(await say(lab, `get network ${each} -o jsonpath={.status.vni}`))
})
after(() => lab?.close())

const of = (pod: string, name = 'eth1'): Endpoint =>
  endpoints.find((each) => each.pod === `default/${pod}` && each.interface === name)!
const v4 = (pod: string, name = 'eth1') => of(pod, name).addresses.find((each) => !each.includes(':'))!
const v6 = (pod: string, name = 'eth1') => of(pod, name).addresses.find((each) => each.includes(':'))!
const mac = (pod: string, name = 'eth1') => of(pod, name).mac!

/** Who hears what is sent, of all the pods beside the sender. */
async function heardBy(marker: Buffer, send: Attack['send']): Promise<string[]> {
  const ears = ['friend', 'victim', 'far-victim', 'near', 'far'].map((name) => ({
    name,
    netns: netns[name]!,
    device: 'eth1',
  }))
  const attack: Attack = { send, ears, marker: marker.toString('hex') }
  const file = join(dir, 'attack.json')
  writeFileSync(file, JSON.stringify(attack))
  const script = join(import.meta.dirname, 'hostile.ts')
  const { exit, output } = await lab.exec('default/evil', [process.execPath, script, file])
  assert.equal(exit, 0, output)
  return JSON.parse(output)
}

const fromEvil = (device: string, ...frames: Buffer[]): Attack['send'] => [
  { netns: netns.evil!, device, frames: frames.map((frame) => frame.toString('hex')) },
]

/** Onto the wire behind a NIC, towards n1. */
const ontoWire = (nic: string, frame: Buffer): Attack['send'] => [
  { netns: join(dir, 'netns', `switch-${nic}`), device: 'n1', frames: [frame.toString('hex')] },
]

interface Outer {
  etherSource: string
  etherDestination: string
  source: string
  destination: string
}

/** A packet to a victim of the red network, in a tunnel as the other node would send it. */
function tunnelled(to: 'victim' | 'far-victim', marker: Buffer, outer: Outer): Buffer {
  const [here, there] = to === 'victim' ? (['n1', 'n2'] as const) : (['n2', 'n1'] as const)
  const inner = udpFrame({
    etherSource: tunnelMac(nodeAddress[there]),
    etherDestination: tunnelMac(nodeAddress[here]),
    source: v4(to === 'victim' ? 'far-victim' : 'victim'),
    destination: v4(to),
    port: 20779,
    payload: marker,
  })
  const vxlan = Buffer.alloc(8)
  vxlan[0] = 0x08
  vxlan.writeUInt32BE(vni.red! << 8, 4)
  return udpFrame({ ...outer, port: tunnelPort, payload: Buffer.concat([vxlan, inner]) })
}

const tunnelMac = (address: string): string =>
  `0a:54:${Buffer.from(addressBytes(address))
    .toString('hex')
    .replace(/..(?!$)/g, '$&:')}`
const addressBytes = (address: string) => Buffer.from(bytesOf(parseAddress(address)!))
const newMarker = () => randomBytes(12)
const ifNode = (nic: number): Outer => ({
  etherSource: macOf(nic, 1),
  etherDestination: macOf(nic, 0),
  source: nodeAddress.n2,
  destination: nodeAddress.n1,
})

test('tunnel frames come in by their own wire, from its nodes, and by no other way', { skip }, async () => {
  const marker = newMarker()
  const right = await heardBy(marker, ontoWire('eth0', tunnelled('victim', marker, ifNode(0))))
  // Where nobody listens, the victim answers the other with an ICMP error that quotes the packet.
  assert.deepEqual(right, ['far-victim', 'victim'])
  const wrong: [string, string, Buffer][] = ['eth1', 'eth2'].map((nic, i) => [
    `by ${nic}`,
    nic,
    tunnelled('victim', marker, ifNode(i + 1)),
  ])
  wrong.push([
    'from a stranger',
    'eth0',
    tunnelled('victim', marker, { ...ifNode(0), source: '192.168.1.99' }),
  ])
  for (const [title, nic, frame] of wrong)
    assert.deepEqual(await heardBy(marker, ontoWire(nic, frame)), [], title)
})

test('a pod cannot put frames into a tunnel, of its own node or another', { skip }, async () => {
  const marker = newMarker()
  for (const device of ['eth0', 'eth1'])
    for (const [victim, node] of [
      ['victim', 'n1'],
      ['far-victim', 'n2'],
    ] as const)
      for (const source of [v4('evil', device), node === 'n1' ? nodeAddress.n2 : nodeAddress.n1]) {
        const frame = tunnelled(victim, marker, {
          etherSource: mac('evil', device),
          etherDestination: gatewayMac,
          source,
          destination: nodeAddress[node],
        })
        const title = `${device} to ${node} from ${source}`
        assert.deepEqual(await heardBy(marker, fromEvil(device, frame)), [], title)
      }
})

test('floods of neighbours and a sweep of the whole subnet leave no trace and disturb nobody', {
  skip,
}, async () => {
  const before = await neighbours()
  const arps = Array.from({ length: 3000 }, (_, i) =>
    arp('request', mac('evil'), `10.1.${100 + (i >> 8)}.${i & 255}`, v4('friend'), everyone),
  )
  const solicitations = Array.from({ length: 3000 }, (_, i) =>
    neighbourMessage(135, mac('evil'), `fd00:10:1::bad:${i.toString(16)}`, v6('friend'), newMarker()),
  )
  const sweep = Array.from({ length: 65536 }, (_, i) =>
    udpFrame({
      etherSource: mac('evil'),
      etherDestination: gatewayMac,
      source: v4('evil'),
      destination: `10.1.${i >> 8}.${i & 255}`,
      port: 9,
      payload: Buffer.alloc(0),
    }),
  )
  for (const frames of [arps, solicitations, sweep]) await heardBy(newMarker(), fromEvil('eth1', ...frames))
  assert.deepEqual(await neighbours(), before)
  for (const until = performance.now() + 30_000; ; ) {
    const probes = await lab.reach(['default/evil', 'default/friend'])
    const blue = probes.filter(
      ({ from, to }) => from.network === 'default/blue' && to.network === from.network,
    )
    if (blue.length > 0 && blue.every(({ answeredBy, to }) => answeredBy === to.pod)) break
    assert.ok(performance.now() < until, JSON.stringify(blue))
  }
})

test('a pod that opens ten thousand connections a second is held, and what it opened goes with it', {
  skip: skip || (spawnSync('nft', ['--version']).status === 0 ? false : 'nft is not installed'),
}, async () => {
  await within('echo 15 > /proc/sys/net/netfilter/nf_conntrack_udp_timeout')
  const ports = async () => new Set((await within('nft list ruleset')).join('').match(/pn[0-9a-f]{12}/g))
  const without = await ports()
  await say(lab, 'apply -f -', pod('flooder', 'n1', 'blue:eth1'))
  await say(lab, 'wait pod flooder --for=condition=Ready')
  const flooder = JSON.parse(await say(lab, 'get pod flooder -o json')) as Pod
  const own = await lab.netnsOf('default/flooder')
  const sent = 30_000
  const send = endpointsOf(flooder).map(({ interface: device, addresses, mac }) => ({
    netns: own,
    device,
    perSecond: 10_000,
    frames: Array.from({ length: sent }, (_, i) =>
      udpFrame({
        etherSource: mac!,
        etherDestination: gatewayMac,
        source: addresses.find((each) => !each.includes(':'))!,
        destination: `203.0.113.${(i & 127) + 100}`,
        port: 1024 + (i >> 7),
        payload: Buffer.alloc(0),
      }).toString('hex'),
    ),
  }))
  const begun = performance.now()
  const [heard, answers] = await Promise.all([
    heardBy(newMarker(), send),
    connections('default/victim', 'default/far-victim', v4('far-victim', 'eth0')),
  ])
  const mayOpen = newConnections.burst + (newConnections.perSecond * (performance.now() - begun)) / 1000
  assert.deepEqual([heard, answers], [[], 100])
  const seen = await within('cat /proc/sys/net/netfilter/nf_conntrack_count; nft list ruleset')
  const [inHost, ...inNetworks] = seen.map((text) => ({
    tracked: Number.parseInt(text, 10),
    passed:
      sent -
      Number(
        /packets (\d+) .*"too many new connections"/.exec(text.replaceAll('packets 0 ', ''))?.[1] ?? sent,
      ),
  }))
  const blue = inNetworks.find(({ passed }) => passed > 0)
  assert.ok(inHost && blue, 'dropped ones are counted, in the host and in the network')
  for (const { passed } of [inHost, blue]) assert.ok(passed <= mayOpen, `${passed} passed of ${mayOpen}`)
  const others = 500
  assert.ok(blue.tracked <= blue.passed + others, `${blue.tracked} tracked, ${blue.passed} passed`)
  // What leaves a network stands in the host's table as well.
  const both = inHost.passed + blue.passed
  assert.ok(inHost.tracked <= both + others, `${inHost.tracked} tracked, ${both} passed`)
  await say(lab, 'delete pod flooder')
  for (const until = performance.now() + 60_000; ; ) {
    const left = (await ports()).difference(without)
    if (left.size === 0) break
    assert.ok(performance.now() < until, `still there: ${[...left]}`)
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
})

/** Runs a shell's line in the namespace of n1, and in those of its networks; what each prints. */
async function within(line: string): Promise<string[]> {
  const each = `for n in ${dir}/netns/n1 ${dir}/nodes/n1/run/polynet/netns/*; do nsenter --net=$n sh -c '${line}' && echo ----; done`
  const { exit, output } = await lab.exec('default/evil', ['sh', '-c', each])
  assert.equal(exit, 0, output)
  return output.split('----\n').slice(0, -1)
}

/** Opens a hundred TCP connections, one after another; how many were answered. */
async function connections(from: string, to: string, address: string): Promise<number> {
  const listen = `
    let left = 100
    const server = net.createServer((socket) => {
      socket.on('error', () => {}).end('hello')
      if (--left === 0) server.close()
    }).listen(20778)
    setTimeout(() => process.exit(), 60_000).unref()`
  const open = `
    const ask = () => new Promise((resolve) => {
      const socket = net.connect(20778, '${address}')
      socket.setEncoding('utf8').on('data', (text) => resolve(text)).on('error', () => resolve('')).setTimeout(30_000, () => resolve(''))
    })
    let answers = 0
    for (let tries = 0; answers === 0 && tries < 300; tries++) if (await ask() === 'hello') answers++; else await new Promise((r) => setTimeout(r, 100))
    for (let i = 1; i < 100; i++) if (await ask() === 'hello') answers++
    console.log(answers)
    process.exit()`
  const node = (script: string) => [
    process.execPath,
    '--input-type=module',
    '-e',
    `import net from 'node:net'\n${script}`,
  ]
  const [, { output }] = await Promise.all([lab.exec(to, node(listen)), lab.exec(from, node(open))])
  return Number(output)
}

/**
 * Whom n1 and its networks know on their links, but for what they found out about each other's nodes, and the
 * ends of uplinks, which come and go with what others send.
 */
async function neighbours(): Promise<string[]> {
  const known = (await within('ip neighbour show nud all')).flatMap((text, i) =>
    text.split('\n').map((line) => `${i}: ${line}`),
  )
  return known
    .filter((line) => / dev (?!eth|pnu)/.test(line) && !line.includes('NOARP'))
    .map((line) => line.replace(/(?: router)? [A-Z]+ *$/, ''))
    .sort()
}

test('a pod of a Layer2 network speaks for itself and for nobody else', { skip }, async () => {
  const evil = mac('evil', 'eth2')
  const marker = newMarker()
  const own = udpFrame({
    etherSource: evil,
    etherDestination: everyone,
    source: v4('evil', 'eth2'),
    destination: '10.3.255.255',
    port: 20779,
    payload: marker,
  })
  assert.deepEqual(await heardBy(marker, fromEvil('eth2', own)), ['far', 'near'], 'what it may')
  const dhcp = (source: string): Buffer => {
    const frame = udpFrame({
      etherSource: evil,
      etherDestination: everyone,
      source,
      destination: '255.255.255.255',
      port: 67,
      payload: marker,
    })
    frame.writeUInt16BE(68, 36)
    frame.writeUInt16BE(0, 40)
    return frame
  }
  const forged: [string, Buffer][] = [
    ['a router advertisement', routerAdvertisement(evil, marker)],
    ['a DHCP answer', dhcp(v4('evil', 'eth2'))],
    ['a neighbour advertisement for another', neighbourMessage(136, evil, v6('near'), v6('near'), marker)],
    ['a packet from another address', udpFrame({ ...parts(evil, v4('near')), payload: marker })],
    ['a packet from another MAC', udpFrame({ ...parts(mac('near'), v4('evil', 'eth2')), payload: marker })],
  ]
  for (const [title, frame] of forged)
    assert.deepEqual(await heardBy(marker, fromEvil('eth2', frame)), [], title)
  const claimed = arp('reply', evil, v4('far'), v4('near'), mac('near'))
  assert.deepEqual(
    await heardBy(arpBody(claimed), fromEvil('eth2', claimed)),
    [],
    'an ARP answer for another',
  )
  const gratuitous = arp('request', evil, v4('far'), v4('far'), everyone)
  assert.deepEqual(
    await heardBy(arpBody(gratuitous), fromEvil('eth2', gratuitous)),
    [],
    'a claim on an address',
  )
})

const parts = (etherSource: string, source: string) => ({
  etherSource,
  etherDestination: everyone,
  source,
  destination: '10.3.255.255',
  port: 20779,
})

function arp(
  operation: 'request' | 'reply',
  sender: string,
  senderAddress: string,
  target: string,
  to: string,
): Buffer {
  return Buffer.concat([
    macBytes(to),
    macBytes(sender),
    Buffer.from([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, operation === 'request' ? 1 : 2]),
    macBytes(sender),
    addressBytes(senderAddress),
    macBytes(operation === 'request' ? '00:00:00:00:00:00' : to),
    addressBytes(target),
  ])
}

const arpBody = (frame: Buffer): Buffer => frame.subarray(20)

/** RFC 4861 section 4.3 (135) and 4.4 (136), with an option nobody knows that carries the marker. */
function neighbourMessage(type: 135 | 136, sender: string, source: string, target: string, marker: Buffer) {
  const head = Buffer.from([type, 0, 0, 0, type === 136 ? 0x20 : 0, 0, 0, 0])
  return icmp6(sender, source, 'ff02::1', Buffer.concat([head, addressBytes(target), option(marker)]))
}

/** RFC 4861 section 4.2: a default router for half an hour. */
function routerAdvertisement(sender: string, marker: Buffer): Buffer {
  const head = Buffer.from([134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0])
  return icmp6(sender, 'fe80::bad', 'ff02::1', Buffer.concat([head, option(marker)]))
}

const option = (marker: Buffer): Buffer =>
  Buffer.concat([Buffer.from([253, 2]), marker, Buffer.alloc(14 - marker.length)])

function icmp6(sender: string, source: string, destination: string, message: Buffer): Buffer {
  const [from, to] = [addressBytes(source), addressBytes(destination)]
  const pseudo = Buffer.concat([from, to, Buffer.from([0, 0, 0, message.length, 0, 0, 0, 58])])
  message.writeUInt16BE(checksum(Buffer.concat([pseudo, message])), 2)
  const header = Buffer.from([0x60, 0, 0, 0, 0, message.length, 58, 255])
  const ether = Buffer.concat([macBytes('33:33:00:00:00:01'), macBytes(sender), Buffer.from([0x86, 0xdd])])
  return Buffer.concat([ether, header, from, to, message])
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
