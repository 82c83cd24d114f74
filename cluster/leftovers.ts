import { join } from 'node:path'
import { heldLines } from '../lab/held.ts'
import { readJournal } from '../src/agent/journal/file.ts'
import { Fault } from '../src/lib/fault.ts'
import { clusterDir } from './boot.ts'
import type { Cluster } from './cluster.ts'

/** Everything that Polynet owns on the node, a line each, but what it holds for the cluster's own pods. */
export async function leftoversOn(cluster: Pick<Cluster, 'exec'>, node: string): Promise<string[]> {
  const script = join(import.meta.dirname, '../lab/leftovers.ts')
  const { exit, output } = await cluster.exec(node, [process.execPath, script, '/'])
  if (exit !== 0) throw new Fault('unavailable', `look what is left on ${node}`, output.trim())
  return output.split('\n').filter(isOfPeople)
}

/** Those of them that its journal says, which takes no process on the node. */
export async function heldOn(cluster: Pick<Cluster, 'name'>, node: string): Promise<string[]> {
  const disk = join(clusterDir(cluster.name), 'nodes', node)
  return heldLines(await readJournal(join(disk, 'var/lib/polynet/journal'))).filter(isOfPeople)
}

const isOfPeople = (line: string): boolean => line !== '' && !/^journal .* kube-system\//.test(line)
