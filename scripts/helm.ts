import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { toolDir, versionOf } from '../cluster/build.ts'
import { Fault } from '../src/lib/fault.ts'

const chart = join(import.meta.dirname, '../deploy/chart')

/** The pinned helm, built by the first call on this machine. */
export const helm = async (say?: (line: string) => void): Promise<string> =>
  join(await toolDir('helm', say), 'helm')

/** The pinned helm where it was built before; undefined: it was not. */
export function helmHere(): string | undefined {
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'polynet')
  return globSync(join(cache, `helm-${versionOf('helm').slice(1)}-*`, 'helm'))[0]
}

/** What the chart is with these values (`key=value`), as YAML documents. */
export function rendered(helm: string, values: readonly string[] = []): string {
  const args = ['template', 'polynet', chart, '--namespace', 'polynet-system', '--include-crds']
  const { status, stdout, stderr } = spawnSync(
    helm,
    [...args, ...values.flatMap((each) => ['--set', each])],
    { encoding: 'utf8', maxBuffer: 1 << 26 },
  )
  if (status === 0) return stdout
  throw new Fault('invalid', 'render deploy/chart', stderr.trim())
}

/**
 * Applied and deleted in this order: nothing is asked of a webhook that goes,
 * and programs have their rights from their first moment on.
 */
const order = [
  'Namespace',
  'CustomResourceDefinition',
  'MutatingWebhookConfiguration',
  'ValidatingWebhookConfiguration',
  'ServiceAccount',
  'ClusterRole',
  'ClusterRoleBinding',
  'Role',
  'RoleBinding',
  'ValidatingAdmissionPolicy',
  'ValidatingAdmissionPolicyBinding',
  'Service',
  'PodDisruptionBudget',
  'Deployment',
  'DaemonSet',
]

/** The chart as one manifest for `kubectl apply -f`, its namespace with it. */
export function manifestOf(helm: string): string {
  const documents = rendered(helm, ['namespace.create=true'])
    .split(/^---\n/m)
    .map(withoutHelm)
    // What is for helm alone to do, when it removes a release.
    .filter((each) => kindOf(each) !== undefined && !/^ *helm\.sh\/hook:/m.test(each))
    .map((each) => ({ text: kept(each), place: placeOf(each) }))
  const texts = documents.toSorted((a, b) => a.place - b.place).map(({ text }) => text)
  const head =
    '# Written by scripts/manifest.ts: deploy/chart as it is without values, for `kubectl apply -f`.'
  return `${[head, ...texts].join('\n---\n')}\n`
}

const kindOf = (document: string): string | undefined => /^kind: (\w+)$/m.exec(document)?.[1]

function placeOf(document: string): number {
  const at = order.indexOf(kindOf(document) ?? '')
  if (at >= 0) return at
  throw new Fault('invalid', 'write deploy/polynet.yaml', `${kindOf(document)} has no place in its order`)
}

/** Without what only helm says of itself. */
const withoutHelm = (document: string): string =>
  document
    .split('\n')
    .filter(
      (line) =>
        line.trim() !== '' &&
        !/^# |app.kubernetes.io\/managed-by: Helm|helm.sh\/resource-policy: keep/.test(line),
    )
    .join('\n')
    .replaceAll(/^ *annotations:\n(?! )/gm, '')

/** Definitions that Polynet shares with others are kept like its own, which say so themselves; nobody deletes both by one value. */
const kept = (document: string): string =>
  kindOf(document) !== 'CustomResourceDefinition' || document.includes('polynet.dev/kept')
    ? document
    : document.replace(
        /^metadata:\n {2}name: .*$/m,
        (all) => `${all}\n  labels:\n    polynet.dev/kept: shared`,
      )
