import { relative } from 'node:path'
import { after } from 'node:test'

/**
 * Preloaded into every test file: ends it, as failed, when something that it
 * left open keeps it alive long after its last test. Node's own
 * `--test-force-exit` would end it at once and lose results on their way to
 * the parent (Node 26.10, November 2026).
 */
const patienceMs = 30_000

after(() => {
  const end = () => {
    const file = relative(process.cwd(), process.argv[1] ?? '')
    const open = [...new Set(process.getActiveResourcesInfo())].join(', ')
    process.stderr.write(
      `${file} left something open (${open}) for ${patienceMs / 1000} s after its last test\n`,
    )
    process.exit(1)
  }
  setTimeout(end, patienceMs).unref()
})
