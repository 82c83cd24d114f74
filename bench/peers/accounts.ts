import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { apiServer } from '../../src/kube/cluster/config.ts'
import type { Place } from './place.ts'
import { polynet } from './ways.ts'

export type Account = [namespace: string, name: string]

/** By which one asks as that account, from this machine. */
export async function kubeconfigFor(
  { cluster, kubectl }: Place,
  dir: string,
  [namespace, name]: Account,
): Promise<string> {
  const { url, ca = '' } = apiServer(cluster.kubeconfig)
  const token = (await kubectl(['-n', namespace, 'create', 'token', name])).trim()
  const path = join(dir, `${name}.kubeconfig`)
  const data = Buffer.from(ca).toString('base64')
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'it', cluster: { server: url.origin, 'certificate-authority-data': data } }],
    users: [{ name: 'it', user: { token } }],
    contexts: [{ name: 'it', context: { cluster: 'it', user: 'it', namespace } }],
    'current-context': 'it',
  }
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 })
  return path
}

/** The account of Polynet's allocators that are no agents: agents' own tokens are good for one node each. */
export async function allocatorAccount({ kubectl }: Place): Promise<Account> {
  const account: Account = [polynet.namespace, 'allocator']
  const [namespace, name] = account
  const kinds = ['serviceaccounts,clusterrolebindings', '--ignore-not-found', name]
  if ((await kubectl(['-n', namespace, 'get', ...kinds, '-o', 'name'])) === '') {
    await kubectl(['-n', namespace, 'create', 'serviceaccount', name])
    const bound = ['--clusterrole=cluster-admin', `--serviceaccount=${namespace}:${name}`]
    await kubectl(['create', 'clusterrolebinding', name, ...bound])
  }
  return account
}
