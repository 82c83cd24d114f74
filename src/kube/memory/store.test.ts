import { kubeConformance } from '../conformance.ts'
import { MemoryKube } from './store.ts'

kubeConformance('an API server in memory', async () => {
  const kube = new MemoryKube()
  return { kube, close() {}, bookmark: () => kube.bookmark(), compact: () => kube.compact() }
})
