import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Node, Pod } from '../src/api/core.ts'
import type { HostPhysicalNetwork } from '../src/api/host-physical-network.ts'
import { type Endpoint, endpointsOf, type Probe, questionsFor } from './reach.ts'
import { nodesText, podsText, reachText } from './screen.ts'

const pod = (name: string, node: string, status: object[]): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name,
    namespace: 'default',
    annotations: status.length > 0 ? { 'k8s.v1.cni.cncf.io/network-status': JSON.stringify(status) } : {},
  },
  spec: { nodeName: node, containers: [] },
  status: { phase: status.length > 0 ? 'Running' : 'Pending' },
})

const a = pod('a', 'n1', [
  { name: 'default/blue', interface: 'eth0', ips: ['10.1.0.2', 'fd00:10:1::2'], mac: '0a:58:0a:01:00:02' },
  { name: 'default/red', interface: 'eth1', ips: ['10.2.0.2'], mac: '0a:58:0a:02:00:02' },
])
const b = pod('b', 'n2', [{ name: 'default/blue', interface: 'eth0', ips: ['10.1.1.2', 'fd00:10:1::1:2'] }])

test('nodes are listed with their NICs, and what each NIC reaches', () => {
  const node = (name: string, ready: string): Node => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name },
    spec: {},
    status: { conditions: [{ type: 'Ready', status: ready }] },
  })
  const host: HostPhysicalNetwork = {
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'HostPhysicalNetwork',
    metadata: { name: 'n1' },
    spec: {},
    status: {
      nics: [
        { name: 'eth0', mac: '', mtu: 1500, up: true, addresses: ['192.168.1.11/24'] },
        { name: 'eth1', mac: '', mtu: 9000, up: false },
      ],
      mappings: [{ physicalNetwork: 'phy-net0', nic: 'eth1', usable: false }],
    },
  }
  assert.equal(
    nodesText([node('n2', 'False'), node('n1', 'True')], [host]),
    `
NAME   STATUS     NIC    ADDRESS           MTU    LINK   PHYSICAL NETWORK
n1     Ready      eth0   192.168.1.11/24   1500   up
                  eth1                     9000   down   phy-net0 (unusable)
n2     NotReady`.slice(1),
  )
})

test('pods are listed with their interfaces, those that have none too', () => {
  assert.equal(
    podsText([b, a, pod('c', '', [])]),
    `
NAMESPACE   NAME   NODE   PHASE     INTERFACE   NETWORK        ADDRESS                    MAC
default     a      n1     Running   eth0        default/blue   10.1.0.2, fd00:10:1::2     0a:58:0a:01:00:02
                                    eth1        default/red    10.2.0.2                   0a:58:0a:02:00:02
default     b      n2     Running   eth0        default/blue   10.1.1.2, fd00:10:1::1:2
default     c             Pending`.slice(1),
  )
})

test('a cell says by which switch a packet was answered, by whom else, or that it was not', () => {
  const endpoints = [a, b].flatMap(endpointsOf)
  const answers: Record<string, Partial<Probe>> = {
    'eth0 10.1.1.2': { answeredBy: 'default/b', switches: ['eth1'] },
    'eth0 fd00:10:1::1:2': { answeredBy: 'default/b', switches: ['eth1'] },
    'eth0 10.1.0.2': { answeredBy: 'default/a' },
    'eth0 10.2.0.2': { answeredBy: 'other/x', switches: ['eth1', 'eth2'] },
  }
  const probes = questionsFor(endpoints).map(
    (each): Probe => ({ ...each, switches: [], ...answers[`${each.from.interface} ${each.address}`] }),
  )
  assert.equal(
    reachText(endpoints, probes).split('\n').slice(0, 4).join('\n'),
    `
    FROM        INTERFACE   NODE   TO 1     TO 2       TO 3
1   default/a   eth0        n1                         eth1
2   default/a   eth1        n1                         -
3   default/b   eth0        n2     node -   !other/x`.slice(1),
  )
})

test('who wrote no JSON into the status has no interfaces but the one that Kubernetes knows', () => {
  const odd = structuredClone(a)
  odd.metadata.annotations = { 'k8s.v1.cni.cncf.io/network-status': '[{' }
  odd.status = { podIPs: [{ ip: '10.1.0.2' }] }
  assert.deepEqual(endpointsOf(odd), [
    { pod: 'default/a', node: 'n1', interface: 'eth0', network: '', addresses: ['10.1.0.2'] },
  ] satisfies Endpoint[])
})
