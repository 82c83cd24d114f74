import { isKeptBlock, ownerKey } from '../agent/addresses/records.ts'
import type { AttachmentRecord, SandboxRecord } from '../agent/journal/record.ts'
import { isBridged } from '../agent/slices.ts'
import type { Attachment, AttachmentSlice } from '../api/attachment-slice.ts'
import type { Pod } from '../api/core.ts'
import { consistency, type NodeHoldings } from '../ipam/consistency.ts'
import { withoutLength } from '../lib/ip.ts'
import { strays } from './strays.ts'
import type { Finding, SeenNode, View } from './view.ts'

/**
 * Everything in which kernel, journal, addresses, attachments and pods
 * contradict each other, each with its remedy; nothing when all is well. What
 * is under way contradicts itself for a moment: look twice.
 */
export function diagnose(view: View): Finding[] {
  return [
    ...doubleAddresses(view),
    ...attachmentsOfNobody(view),
    ...blocksOfNobody(view),
    ...view.seen.flatMap((node) => [
      ...inKernel(node),
      ...inJournal(node, view),
      ...podsWithout(node, view),
      ...inSlices(node, view),
      ...inConfDirectory(node),
    ]),
    ...addressesIn(view),
  ]
}

/** Two interfaces with one address on one network. */
function doubleAddresses({ slices }: View): Finding[] {
  const holders = new Map<string, { who: string; text: string }[]>()
  for (const slice of slices)
    for (const a of slice.attachments)
      for (const ip of a.ips) {
        const key = `${slice.networkUID} ${ip}`
        const who = `pod ${a.podNamespace}/${a.pod} (${a.interface}) on node ${slice.node}`
        const text = `${ip} of network ${slice.metadata.namespace}/${slice.network}`
        holders.set(key, [...(holders.get(key) ?? []), { who, text }])
      }
  return [...holders.values()].flatMap((all) =>
    all.length < 2
      ? []
      : [
          {
            problem: `${all[0]?.text} is held by ${all.map(({ who }) => who).join(' and by ')}`,
            remedy: 'delete one of the pods, which gets another address when it is made again',
          },
        ],
  )
}

/** On nodes that were looked at, journals say the same. */
function attachmentsOfNobody({ slices, pods, nodes, seen }: View): Finding[] {
  const byUID = new Map(pods.map((pod) => [pod.metadata.uid, pod]))
  const nodeUIDs = new Set(nodes.map((node) => node.metadata.uid))
  return slices.flatMap((slice): Finding[] => {
    const { namespace, name } = slice.metadata
    if (!nodeUIDs.has(slice.nodeUID))
      return [
        {
          problem: `AttachmentSlice ${namespace}/${name} is of node ${slice.node} with UID ${slice.nodeUID}, which is not there`,
          remedy: `the controller takes it away; see whether it runs, or kubectl -n ${namespace} delete attachmentslice ${name}`,
        },
      ]
    if (seen.some((node) => node.name === slice.node)) return []
    return slice.attachments.flatMap((a): Finding[] => {
      const pod = byUID.get(a.podUID)
      const what = `${textOf(a)} is attached to network ${namespace}/${slice.network}`
      if (!pod)
        return [
          { node: slice.node, problem: `${what}, but there is no such pod`, remedy: waitForDel(slice.node) },
        ]
      if (pod.spec.nodeName !== slice.node)
        return [
          {
            node: slice.node,
            problem: `${what}, but it runs on node ${pod.spec.nodeName}`,
            remedy: waitForDel(slice.node),
          },
        ]
      return []
    })
  })
}

const textOf = (a: Attachment): string => `${a.interface} of pod ${a.podNamespace}/${a.pod}`

const waitForDel = (node: string): string =>
  `its DEL has not come; on ${node}, crictl pods --state NotReady lists such sandboxes and crictl rmp removes one`

function blocksOfNobody({ blocks, nodes }: View): Finding[] {
  const nodeUIDs = new Set(nodes.map((node) => node.metadata.uid))
  return blocks
    .filter(({ spec }) => !nodeUIDs.has(spec.nodeUID) && spec.holder === undefined)
    .map(({ metadata, spec }) => ({
      problem: `AddressBlock ${spec.cidr} of network ${metadata.namespace}/${spec.network} is node ${spec.node}'s with UID ${spec.nodeUID}, which is not there`,
      remedy: `the controller takes it away; see whether it runs, or kubectl -n ${metadata.namespace} delete addressblock ${metadata.name}`,
    }))
}

function inKernel({ name: node, kernel, sandboxes, networks, differences }: SeenNode): Finding[] {
  const { ports, networks: ofNetworks } = strays(kernel, sandboxes, networks)
  const restart = `restart the agent of ${node} (delete its pod), which puts the kernel right`
  return [
    ...ports.map((what) => ({ node, problem: `${what} belongs to no pod`, remedy: restart })),
    ...ofNetworks.map((what) => ({ node, problem: `${what} belongs to no network`, remedy: restart })),
    ...differences.map((problem) => ({ node, problem, remedy: restart })),
  ]
}

function inJournal(
  { name: node, sandboxes, goneNamespaces, holdings, spooled }: SeenNode,
  view: View,
): Finding[] {
  const found: Finding[] = []
  const tell = (problem: string, remedy: string) => found.push({ node, problem, remedy })
  const uids = new Set(view.pods.map((pod) => pod.metadata.uid))
  for (const record of sandboxes) {
    const who = sandboxText(record)
    if (record.state === 'deleting')
      tell(
        `the DEL of ${who} has not ended${record.problem === undefined ? '' : `: ${record.problem}`}`,
        'put that right; the agent tries it again within half a minute',
      )
    else if (!uids.has(record.pod.uid))
      tell(`the journal has ${who}, but there is no such pod`, waitForDel(node))
    else if (goneNamespaces.includes(record.netns))
      tell(`the journal has ${who}, but its namespace ${record.netns} is gone`, waitForDel(node))
    else if (record.state !== 'added')
      tell(`the ADD of ${who} has not ended`, "the runtime repeats it; the pod's Events say what keeps it")
  }
  const held = new Set(sandboxes.flatMap((s) => s.attachments.map((a) => `${s.containerID}/${a.interface}`)))
  for (const { owner, addresses, network } of holdings.leases)
    if (!held.has(`${owner.containerID}/${owner.interface}`))
      tell(
        `${addresses.map(({ address }) => withoutLength(address)).join(' and ')} of network ${network} is leased to pod ${owner.pod} (sandbox ${owner.containerID.slice(0, 12)}), which the journal does not have`,
        owner.journaled
          ? "the agent gives it back within half a minute, once there is room on the journal's disk"
          : 'the next GC of the container runtime gives it back; restart the runtime where it never collects',
      )
  if (spooled > 0)
    tell(
      `${spooled} DELs wait in the spool`,
      'the agent repeats them each second; its log says what keeps them',
    )
  return found
}

const sandboxText = ({ containerID, pod }: SandboxRecord): string =>
  `sandbox ${containerID.slice(0, 12)} of pod ${pod.namespace}/${pod.name}`

const statusKey = 'k8s.v1.cni.cncf.io/network-status'

/** Of two who own an annotation, a runtime executes the first. */
function inConfDirectory({ name: node, confs, adaptors }: SeenNode): Finding[] {
  const first = confs[0]?.endsWith('-polynet.conflist')
    ? 'is not executed, since Polynet comes first; remove its DaemonSet and that file'
    : 'comes first, so that pods get its attachments beside those of Polynet, or in place of them; remove its DaemonSet and that file'
  return adaptors.map((file) => ({
    node,
    problem: `${file} is of a program that attaches pods by the same annotations as Polynet`,
    remedy: `it ${first}`,
  }))
}

/** Pods that were attached by Polynet once, as their `network-status` says; those that were there before it are not its own. */
function podsWithout({ name: node, sandboxes }: SeenNode, { pods }: View): Finding[] {
  const known = new Set(sandboxes.map(({ pod }) => pod.uid))
  return pods
    .filter((pod) => runsOn(pod, node) && !known.has(pod.metadata.uid ?? ''))
    .map((pod) => ({
      node,
      problem: `pod ${pod.metadata.namespace}/${pod.metadata.name} runs, but the journal has no sandbox of it`,
      remedy: 'delete the pod; it gets its networks when it is made again',
    }))
}

const runsOn = ({ spec, status, metadata }: Pod, node: string): boolean =>
  spec.nodeName === node &&
  !spec.hostNetwork &&
  status?.phase === 'Running' &&
  !metadata.deletionTimestamp &&
  Object.hasOwn(metadata.annotations ?? {}, statusKey)

/** The node's own slices, compared with its journal. A slice names the pods that others must know; of the rest, that they are there. */
function inSlices({ name: node, sandboxes, holdings }: SeenNode, { slices }: View): Finding[] {
  const own = slices.filter((slice) => slice.nodeUID === holdings.nodeUID)
  const written = linesOf(own)
  const networks = new Set(own.map(({ networkUID }) => networkUID))
  const kept = new Set(
    holdings.leases
      .filter(({ addresses }) => addresses.some(({ block }) => isKeptBlock(holdings.blocks.get(block))))
      .map(({ owner }) => ownerKey(owner)),
  )
  const held = new Map<string, { isThere: boolean; what: string }>()
  for (const record of sandboxes)
    for (const a of record.state === 'added' ? record.attachments : []) {
      if (a.kind !== 'polynet' || !a.held) continue
      const ips = a.held.addresses.map(({ address }) => withoutLength(address))
      const key = [a.network.uid, record.containerID, a.interface, ...ips].join(' ')
      const isNamed =
        isBridged(a) || kept.has(ownerKey({ containerID: record.containerID, interface: a.interface }))
      held.set(key, {
        isThere: isNamed ? written.has(key) : networks.has(a.network.uid),
        what: `${a.interface} of ${sandboxText(record)}, with ${ips.join(' and ')} of network ${a.network.namespace}/${a.network.name}`,
      })
    }
  const remedy = `the agent writes it within ten minutes, at once where nodes need it; when it does not, restart the agent of ${node}`
  return [
    ...[...held.values()].flatMap(({ isThere, what }) =>
      isThere ? [] : [{ node, problem: `no AttachmentSlice has ${what}`, remedy }],
    ),
    ...[...written].flatMap(([key, what]) =>
      held.has(key) ? [] : [{ node, problem: `${what}, which the journal does not have`, remedy }],
    ),
  ]
}

function linesOf(slices: AttachmentSlice[]): Map<string, string> {
  const lines = new Map<string, string>()
  for (const { metadata, networkUID, network, attachments } of slices)
    for (const a of attachments)
      lines.set(
        [networkUID, a.containerID, a.interface, ...a.ips].join(' '),
        `AttachmentSlice ${metadata.namespace}/${metadata.name} has ${textOf(a)} with ${a.ips.join(' and ')} of network ${metadata.namespace}/${network}`,
      )
  return lines
}

/** What must never be, of addresses: blocks that overlap, leases from blocks of others, interfaces without their lease. */
function addressesIn({ blocks, seen }: View): Finding[] {
  const remedy =
    'delete the pod, which gets another address when it is made again, and report how it came to that'
  const journals = seen.map(({ holdings }): NodeHoldings => holdings)
  return [
    ...consistency(blocks, journals).map((problem) => ({ problem, remedy })),
    ...seen.flatMap(({ name: node, sandboxes, holdings }) => {
      const leased = new Set(
        holdings.leases.flatMap(({ owner, addresses }) =>
          addresses.map(({ address }) => `${owner.containerID}/${owner.interface} ${address}`),
        ),
      )
      return sandboxes.flatMap((record) =>
        record.attachments.flatMap((a) =>
          addressesOf(a)
            .filter((address) => !leased.has(`${record.containerID}/${a.interface} ${address}`))
            .map((address) => ({
              node,
              problem: `${a.interface} of ${sandboxText(record)} has ${withoutLength(address)}, which is not leased to it`,
              remedy,
            })),
        ),
      )
    }),
  ]
}

const addressesOf = (a: AttachmentRecord): string[] =>
  a.kind === 'polynet' ? (a.held?.addresses.map(({ address }) => address) ?? []) : []
