import { existsSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { holdingsOf } from '../agent/addresses/records.ts'
import { readJournal } from '../agent/journal/file.ts'
import { recordsIn } from '../agent/journal/record.ts'
import { resources } from '../api/resources.ts'
import { isAdaptor } from '../attach/plugin-name.ts'
import { isConfName, readConfDir } from '../cni/conf.ts'
import { linuxDatapath } from '../datapath/linux/linux.ts'
import type { Datapath } from '../datapath/port.ts'
import type { Kube } from '../kube/port.ts'
import type { SeenNode, View } from './view.ts'

/** What the API server shows, and what is seen on the nodes. Whoever may not read all of it gets the `forbidden` fault. */
export async function lookAt(kube: Kube, seen: SeenNode[] = []): Promise<View> {
  const [nodes, pods, blocks, slices] = await Promise.all([
    kube.list(resources.nodes),
    // A node's agent reads its own pods; attachments and the kernel are of those anyway.
    kube.list(resources.pods),
    kube.list(resources.addressBlocks),
    kube.list(resources.attachmentSlices),
  ])
  return { nodes: nodes.items, pods: pods.items, blocks: blocks.items, slices: slices.items, seen }
}

/** What is on the node that this runs on, its files below `root`, its conf directory `confDir`. Changes nothing, and the agent goes on. */
export async function lookAtNode(root: string, confDir: string): Promise<SeenNode> {
  const datapath = await linuxDatapath({ runDir: join(root, 'run/polynet') })
  try {
    return await seenNode({
      entries: await readJournal(join(root, 'var/lib/polynet/journal')),
      datapath,
      hasNamespace: existsSync,
      confs: filesIn(confDir).filter(isConfName).sort(),
      adaptors: (await readConfDir(confDir)).confs.filter(isAdaptor).map(({ source }) => basename(source)),
      spooled: filesIn(join(root, 'var/lib/polynet/spool')).length,
    })
  } finally {
    await datapath.close()
  }
}

const filesIn = (dir: string): string[] => {
  try {
    return readdirSync(dir).filter((name) => !name.startsWith('.'))
  } catch {
    return []
  }
}

/** What a journal and a kernel say of their node. */
async function seenNode(of: {
  entries: ReadonlyMap<string, unknown>
  datapath: Pick<Datapath, 'describe' | 'check'>
  hasNamespace: (path: string) => boolean
  confs: string[]
  adaptors: string[]
  spooled: number
}): Promise<SeenNode> {
  const { entries, datapath, hasNamespace, confs, adaptors, spooled } = of
  const sandboxes = recordsIn(entries)
  const [gone, there] = [false, true].map((is) => sandboxes.filter(({ netns }) => hasNamespace(netns) === is))
  const ports = (there ?? [])
    .filter(({ state }) => state === 'added')
    .flatMap(({ attachments }) => attachments.flatMap((a) => (a.kind === 'polynet' && a.port) || []))
  const holdings = holdingsOf(entries)
  const node = entries.get('node') as { name: string; uid: string } | undefined
  return {
    name: node?.name ?? holdings.node,
    kernel: await datapath.describe(),
    differences: ports.length > 0 ? await datapath.check(ports) : [],
    networks: [...entries.keys()].flatMap((key) => (key.startsWith('network/') ? [key.slice(8)] : [])),
    sandboxes,
    holdings,
    goneNamespaces: (gone ?? []).map(({ netns }) => netns),
    confs,
    adaptors,
    spooled,
  }
}
