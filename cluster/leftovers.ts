import { join } from 'node:path'
import { Fault } from '../src/lib/fault.ts'
import type { Connected } from './boot.ts'

/** Everything that Polynet owns on the node, a line each, but what it holds for the cluster's own pods. */
export async function leftoversOn(cluster: Pick<Connected, 'exec'>, node: string): Promise<string[]> {
  const script = join(import.meta.dirname, '../lab/leftovers.ts')
  const { exit, output } = await cluster.exec(node, [process.execPath, script, '/'])
  if (exit !== 0) throw new Fault('unavailable', `look what is left on ${node}`, output.trim())
  return output.split('\n').filter((line) => line !== '' && !/^journal .* kube-system\//.test(line))
}
