import { setTimeout as sleep } from 'node:timers/promises'
import type { Resource } from '../src/api/meta.ts'
import { connect } from '../src/kube/cluster/connect.ts'
import { kubeConformance } from '../src/kube/conformance.ts'
import { isFault } from '../src/lib/fault.ts'
import { startCluster } from './cluster.ts'

const serviceAccounts: Resource = {
  group: '',
  version: 'v1',
  kind: 'ServiceAccount',
  plural: 'serviceaccounts',
  namespaced: true,
}

/** With KUBECONFIG set, that cluster's; one that nobody needs, because objects of every kind come and go on it. */
kubeConformance('a real kube-apiserver, over kube/cluster', async () => {
  const options = { name: `kube-${process.pid}`, nodes: 1, defaultNetwork: 'none' } as const
  const cluster = process.env.KUBECONFIG ? undefined : await startCluster(options)
  const kube = await connect(cluster?.kubeconfig ?? process.env.KUBECONFIG)
  return {
    kube,
    /** Nobody makes pods before the controller-manager has made the namespace's service account. */
    async settled(namespace) {
      for (;;)
        try {
          await kube.get(serviceAccounts, { namespace, name: 'default' })
          return
        } catch (error) {
          if (!isFault(error, 'missing')) throw error
          await sleep(20)
        }
    },
    async close() {
      kube.close()
      await cluster?.close()
    },
  }
})
