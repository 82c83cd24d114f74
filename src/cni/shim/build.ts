import { spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { access, copyFile, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * Puts the shim into the folder `into`, as `polynet-cni` and as `polynet-ipam`,
 * and says what it is: a static program where there is a C compiler, else a
 * script around `fallback.ts`, which needs this machine's Node and takes a
 * hundred times as long. Compiling happens once per source; what is there is
 * replaced in one step, so that a runtime which is executing it is not disturbed.
 */
export async function buildShim(
  into: string,
  // With musl it starts and ends in half the time: glibc asks the CPU what it can dozens of times, which traps in a virtual machine.
  compilers = ['musl-gcc', 'cc', 'gcc', 'clang', 'tcc'],
): Promise<{ path: string; kind: 'c' | 'node' }> {
  await mkdir(into, { recursive: true })
  const compiled = await compile(compilers)
  const path = join(into, 'polynet-cni')
  const fresh = `${path}.${randomUUID()}`
  if (compiled) await copyFile(compiled, fresh)
  else await writeFile(fresh, script(), { mode: 0o755 })
  await rename(fresh, path)
  await symlink('polynet-cni', `${fresh}.ipam`)
  await rename(`${fresh}.ipam`, join(into, 'polynet-ipam'))
  return { path, kind: compiled ? 'c' : 'node' }
}

const source = join(import.meta.dirname, 'polynet-cni.c')
const cache = join(import.meta.dirname, '../../../build')

/** Path of the compiled shim, or undefined where no compiler could make one. */
async function compile(compilers: string[]): Promise<string | undefined> {
  if (compilers.length === 0) return undefined
  const digest = createHash('sha256')
    .update(await readFile(source))
    .update(compilers.join(' '))
    .digest('hex')
  const path = join(cache, `polynet-cni-${process.arch}-${digest.slice(0, 16)}`)
  if (await exists(path)) return path
  await mkdir(cache, { recursive: true })
  const fresh = `${path}.${randomUUID()}`
  // Static, so that it runs on any host it is copied to; linked to this machine's libraries where that is all there is.
  for (const linking of [['-static'], []])
    for (const compiler of compilers)
      if (await runs(compiler, ['-O2', '-s', ...linking, '-o', fresh, source])) {
        await rename(fresh, path)
        return path
      }
  await rm(fresh, { force: true })
  return undefined
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )

const runs = (program: string, args: string[]): Promise<boolean> =>
  new Promise((resolve) => {
    const child = spawn(program, args, { stdio: 'ignore' })
    child.on('error', () => resolve(false))
    child.on('close', (code) => resolve(code === 0))
  })

const script = (): string =>
  `#!/bin/sh\nexec ${quoted(process.execPath)} ${quoted(join(import.meta.dirname, 'fallback.ts'))} "$0"\n`

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

if (import.meta.main) {
  const [, , into] = process.argv
  if (!into) throw new Error('node build.ts <dir>: where to put the shim')
  const { path, kind } = await buildShim(into)
  console.log(`${path} (${kind})`)
}
