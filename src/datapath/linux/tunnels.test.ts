import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { portTaken } from '../../plan/foreign-tunnel.ts'
import { emptyNamespace, type Link, type NodePlan } from '../../plan/node-plan.ts'
import type { Datapath } from '../port.ts'
import { linuxDatapath } from './linux.ts'
import { createNamespace, removeNamespace } from './netns.ts'
import { impossible } from './possible.ts'
import { udpSocket } from './sockets.ts'

/** Polynet's tunnel beside another program's VXLAN device, on this kernel: who may have which port and identifier. */

const endpoint = '192.168.10.11'
const [vni, port] = [4096, 8472]
const ours: Link = {
  kind: 'vxlan',
  name: 'pnvx',
  vni,
  port,
  local: endpoint,
  underlay: 'eth1',
  mac: '0a:54:c0:a8:0a:0b',
  mtu: 1450,
}
const none = { namespaces: [emptyNamespace('host')], ports: [] }
const withTunnel: NodePlan = {
  namespaces: [emptyNamespace('host'), { ...emptyNamespace('pn-blue'), links: [ours] }],
  ports: [],
}

/** How the other device is made, and what Polynet says of port 8472 when it is there first; undefined: they share. */
const cases: [how: string, says: string | undefined][] = [
  ['id 1 dstport 8472 local 192.168.1.11', undefined],
  ['id 1 dstport 8472 dev eth0 udp6zerocsumtx', undefined],
  [
    'id 4096 dstport 8472 local 192.168.1.11',
    'flannel.1 has VXLAN identifier 4096 on UDP port 8472, and from 4096 on they are for networks',
  ],
  [
    'external dstport 8472',
    'flannel.1 has UDP port 8472 for itself and shares it with no other VXLAN device',
  ],
  [
    'id 1 gbp dstport 8472',
    'flannel.1 has UDP port 8472 for itself and shares it with no other VXLAN device',
  ],
  ['id 4096 dstport 4789 dev eth0', undefined],
  ['external dstport 4789', undefined],
  ['id 1 gbp dstport 8472 local fd00:20::11', undefined],
]

describe('VXLAN devices of others', { skip: impossible() ?? false }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-tunnels-'))
  const host = join(dir, 'host')
  let datapath: Datapath
  const ip = (line: string) =>
    execFileSync('nsenter', [`--net=${host}`, 'ip', ...line.split(' ')], { stdio: 'pipe' })
  const add = (how: string) => {
    ip(`link add flannel.1 type vxlan ${how}`)
    ip('link set flannel.1 up')
  }
  before(async () => {
    createNamespace(host)
    for (const nic of ['eth0', 'eth1']) ip(`link add ${nic} up type veth peer name far-${nic}`)
    ip(`address add ${endpoint}/24 dev eth1`)
    ip('address add fd00:20::11/64 dev eth1 nodad')
    datapath = await linuxDatapath({ runDir: dir, hostNetns: host })
  })
  after(async () => {
    await datapath.close()
    removeNamespace(host)
    rmSync(dir, { recursive: true })
  })

  for (const [how, says] of cases)
    test(`one that was there before (${how}) ${says ? 'is named as what is in the way' : 'is no hindrance'}`, async () => {
      add(how)
      try {
        assert.equal(portTaken(port, endpoint, await datapath.tunnels()), says)
        // What is said and what the kernel does are the same.
        const { refused = [] } = await datapath.replace(withTunnel)
        const why = refused.flatMap((one) => /EEXIST|EADDRINUSE/.exec(one.why) ?? [one.why])
        assert.equal(why.length === 0, says === undefined, String(why))
      } finally {
        await datapath.replace(none)
        ip('link delete flannel.1')
      }
    })

  test('a program that has the port is named, whichever families it has it for, and no tunnel is', async () => {
    const cases: [how: Parameters<typeof udpSocket>[1], families: string][] = [
      [{ family: 4 }, '4'],
      [{ address: '192.168.10.11' }, '4'],
      [{ address: 'fd00:20::11' }, '6'],
      // Whether it is for IPv6 alone is not to be seen.
      [{ family: 6 }, '4,6'],
    ]
    const seen: string[] = []
    for (const [how] of cases) {
      const socket = udpSocket(host, { ...how, port })
      try {
        for (const { families, name } of await datapath.programsOn([4789, port]))
          seen.push(`${families} ${name?.replace(String(process.pid), 'PID')}`)
      } finally {
        socket.close()
      }
    }
    const comm = readFileSync('/proc/self/comm', 'utf8').trim()
    assert.deepEqual(
      seen,
      cases.map(([, families]) => `${families} ${comm} (process PID)`),
    )
    for (const how of ['id 1 dstport 8472', 'external dstport 8472', 'id 1 dstport 8472 local fd00:20::11']) {
      add(how)
      assert.deepEqual(await datapath.programsOn([port]), [], how)
      ip('link delete flannel.1')
    }
  })

  test('a program that has the port is what the message tells to look for', async () => {
    const socket = udpSocket(host, { family: 4, port })
    try {
      const why =
        'create link pnvx in pn-blue: EADDRINUSE; another program has UDP port 8472 of this node; find it (ss -lunp sport = :8472; ip -d link show type vxlan, in every network namespace) and stop it'
      assert.deepEqual((await datapath.replace(withTunnel)).refused, [{ netns: 'pn-blue', why }])
    } finally {
      socket.close()
    }
    await datapath.replace(withTunnel)
    await datapath.replace(none)
  })

  for (const [how, says] of cases)
    test(`one that comes later (${how}) ${says ? 'is refused by the kernel' : 'comes up'}, and ours stays`, async () => {
      await datapath.replace(withTunnel)
      try {
        if (says) assert.throws(() => add(how), /exists|Address already in use/)
        else add(how)
        assert.deepEqual((await datapath.replace(withTunnel)).changes, [])
        const links = (await datapath.describe()).filter((line) => line.startsWith('link pn-blue pnvx'))
        assert.deepEqual(links, [
          'link pn-blue pnvx vxlan vni 4096 port 8472 local 192.168.10.11 mac 0a:54:c0:a8:0a:0b mtu 1450 up',
        ])
      } finally {
        await datapath.replace(none)
        // What was refused when it was set up is there still.
        try {
          ip('link delete flannel.1')
        } catch {}
      }
    })
})
