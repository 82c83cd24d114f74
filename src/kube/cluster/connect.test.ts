import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { kubeConformance, type Started } from '../conformance.ts'
import { type ServeOptions, serve } from '../memory/http.ts'
import { MemoryKube } from '../memory/store.ts'
import { connect } from './connect.ts'

async function served(options: ServeOptions): Promise<Started> {
  const memory = new MemoryKube()
  const server = await serve(memory, options)
  const kube = await connect(server.url)
  return {
    kube,
    bookmark: () => memory.bookmark(),
    compact: () => memory.compact(),
    async close() {
      kube.close()
      await server.close()
    },
  }
}

kubeConformance('an API server over TCP', () => served({ port: 0 }))

kubeConformance('an API server over a unix socket', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'polynet-kube-'))
  const started = await served({ socketPath: join(folder, 'api.sock') })
  return {
    ...started,
    async close() {
      await started.close()
      rmSync(folder, { recursive: true })
    },
  }
})
