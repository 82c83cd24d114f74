import { randomUUID } from 'node:crypto'
import { open, readFile, readlink, rename, rm, stat, symlink } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Makes the file at `path` hold `content`, in one step and durably; whether
 * that took anything. Who reads or executes it meanwhile goes on with what
 * was there.
 */
export async function putFile(path: string, content: Uint8Array, mode: number): Promise<boolean> {
  const [before, is] = await Promise.all([
    readFile(path).catch(() => undefined),
    stat(path).catch(() => undefined),
  ])
  if (is && (is.mode & 0o777) === mode && before?.equals(content)) return false
  // A name that no runtime takes for a configuration, and that `clean` knows.
  const fresh = `${path}.${randomUUID()}.new`
  try {
    const file = await open(fresh, 'wx', mode)
    try {
      await file.writeFile(content)
      // Whatever the umask says.
      await file.chmod(mode)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(fresh, path)
  } catch (error) {
    await rm(fresh, { force: true })
    throw error
  }
  await syncDir(dirname(path))
  return true
}

/** Makes `path` a link to `target`, in one step; whether that took anything. */
export async function putLink(path: string, target: string): Promise<boolean> {
  if ((await readlink(path).catch(() => undefined)) === target) return false
  const fresh = `${path}.${randomUUID()}.new`
  await symlink(target, fresh)
  await rename(fresh, path)
  return true
}

/** Makes durable which files a directory has. */
export async function syncDir(path: string): Promise<void> {
  const dir = await open(path, 'r')
  await dir.sync().finally(() => dir.close())
}
