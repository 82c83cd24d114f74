import { crds } from '../src/api/crds.ts'
import { startController } from '../src/controller/start.ts'
import { serve } from '../src/kube/memory/http.ts'
import { MemoryKube } from '../src/kube/memory/store.ts'
import { realClock } from '../src/lib/clock.ts'
import { jsonLog } from '../src/lib/log.ts'

/** An API server in memory and the controller, as a process of their own: `api.ts <socket>`, until its stdin ends. */
const [socketPath = ''] = process.argv.slice(2)
const kube = new MemoryKube({ crds: crds() })
await serve(kube, { socketPath })
await startController({ kube, clock: realClock, log: jsonLog('controller', 'warn') })
process.stdout.write('serving\n')
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
