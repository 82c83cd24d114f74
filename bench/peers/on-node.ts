import { execFile, execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Place } from './place.ts'
import { Talk } from './talk.ts'

/** What starts a program of this machine on a node, in the network of a pod that is held there or in the node's own. */
export async function onNode(place: Place, node: string, pod?: string): Promise<string[]> {
  const prefix = await place.cluster.prefixOf(node)
  const into = pod === undefined ? [] : ['nsenter', `--net=/run/netns/${pod}`, '--']
  return [...inCluster(place), ...prefix, ...into]
}

/** What starts a program where the control plane is. */
export const inCluster = ({ init }: Place): string[] => [
  ...['nsenter', `--target=${init}`, '--mount', '--net', '--pid', '--'],
]

const exec = promisify(execFile)

/** What a program prints, which must succeed within `withinMs`. */
export async function output([program = '', ...args]: string[], withinMs = 60_000): Promise<string> {
  return (await exec(program, args, { timeout: withinMs, killSignal: 'SIGKILL', maxBuffer: 16 << 20 })).stdout
}

/** `packets.c`, compiled. */
export function packetsProgram({ dir }: Pick<Place, 'dir'>): string {
  const program = join(dir, 'packets')
  if (!existsSync(program)) execFileSync('cc', ['-O2', '-o', program, join(import.meta.dirname, 'packets.c')])
  return program
}

/** A program that goes on until it is closed, or until this process ends; `where` starts programs where it is to be. */
export function startService(where: string[], log: string, argv: string[]): { close(): Promise<unknown> } {
  const script = 'log=$1; shift; "$@" </dev/null >"$log" 2>&1 & cat >/dev/null; kill $!; wait $! 2>/dev/null'
  return new Talk([...where, 'sh', '-c', script, 'sh', log, ...argv])
}
