import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { diagnose } from '../doctor/diagnose.ts'
import { lookAt, lookAtNode } from '../doctor/look.ts'
import { findingText } from '../doctor/view.ts'
import type { Kube } from '../kube/port.ts'
import { Fault } from '../lib/fault.ts'

export interface DoctorOptions {
  /** The node that this runs on; absent: only what the API server shows. */
  node?: string
  root: string
  /** Absent: where it usually is. */
  confDir?: string
  /** How long what is under way may take to agree. */
  settleMs: number
}

/** Prints what stays wrong while it looks again and again, and returns the exit code. */
export async function runDoctor(
  kube: Kube,
  { node, root, confDir, settleMs }: DoctorOptions,
  print: (line: string) => void,
): Promise<0 | 1> {
  const look = async (): Promise<string[]> => {
    const seen = node === undefined ? [] : [await lookAtNode(root, confDir ?? confDirOf(root))]
    for (const { name } of seen)
      if (name !== '' && name !== node)
        throw new Fault('invalid', `look at node ${node}`, `this is node ${name}; run it on ${node}`)
    return diagnose(await lookAt(kube, seen)).map(findingText)
  }
  const until = performance.now() + settleMs
  let findings = await look()
  while (findings.length > 0 && performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 500))
    const again = await look()
    findings = findings.filter((finding) => again.includes(finding))
  }
  for (const finding of findings) print(finding)
  if (findings.length === 0)
    print(
      node === undefined
        ? 'addresses, attachments and pods agree, as the API server has them'
        : `node ${node}: kernel, journal, addresses, attachments and pods agree`,
    )
  return findings.length === 0 ? 0 : 1
}

/** In an agent's pod the node's file system is at /host. */
function confDirOf(root: string): string {
  const [inPod, here] = ['host/etc/cni/net.d', 'etc/cni/net.d'].map((path) => join(root, path))
  return existsSync(inPod as string) ? (inPod as string) : (here as string)
}
