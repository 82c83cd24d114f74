import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Profiles a program that runs until `stop`: then there is
 * `<dir>/<name>.cpuprofile`, for the developer tools of Chrome and for
 * https://www.speedscope.app. `into`: how to get where the program is, in its
 * network and among its processes. Never rejects: without a profile (the
 * program was restarted meanwhile) it says so, and the bench goes on.
 */
export async function profiling(
  program: { word: string; into?: string[] },
  dir: string,
  name: string,
): Promise<{ stop(): Promise<void> }> {
  const { word, into = [] } = program
  const [command = '', ...args] = [...into, process.execPath, join(import.meta.dirname, 'profiler.ts'), word]
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const chunks: Buffer[] = []
  const [ended, began] = [once(child, 'close'), Promise.withResolvers<void>()]
  child.on('error', () => began.resolve())
  child.stdin.on('error', () => {})
  child.stdout.on('data', (chunk: Buffer) => {
    chunks.push(chunk)
    began.resolve()
  })
  await Promise.race([began.promise, ended.catch(() => {})])
  return {
    async stop() {
      child.stdin.end()
      await ended.catch(() => {})
      try {
        const [, text = ''] = Buffer.concat(chunks).toString().split('\n', 2)
        // One that was cut short is none.
        JSON.parse(text)
        mkdirSync(dir, { recursive: true })
        const file = join(dir, `${name}.cpuprofile`)
        writeFileSync(file, text)
        console.error(`the profile of ${word} is ${file}`)
      } catch {
        console.error(`there is no profile of ${word} for ${name}: it ended meanwhile, or could not be asked`)
      }
    },
  }
}
