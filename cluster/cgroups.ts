import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const root = '/sys/fs/cgroup'

/** cgroup v2 is one tree at the root; v1, and both at once, has a tree for each controller. */
const trees = (): string[] =>
  existsSync(join(root, 'cgroup.controllers'))
    ? [root]
    : readdirSync(root, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map((entry) => join(root, entry.name))

/** Makes the group `path` (`polynet-NAME/n1`) in every tree, able to hold what containers need. */
export function createCgroup(path: string): void {
  for (const tree of trees()) {
    const parts = path.split('/')
    for (let i = 1; i <= parts.length; i++) {
      const dir = join(tree, ...parts.slice(0, i))
      mkdirSync(dir, { recursive: true })
      // A group of v1 may use no processor and no memory until it is told which.
      for (const file of ['cpuset.cpus', 'cpuset.mems']) inherit(dir, file)
      delegate(dirname(dir))
    }
  }
}

function inherit(dir: string, file: string): void {
  const from = join(dirname(dir), file)
  const to = join(dir, file)
  if (!existsSync(from) || !existsSync(to) || readFileSync(to, 'utf8').trim() !== '') return
  writeFileSync(to, readFileSync(from, 'utf8'))
}

/** In v2 a group hands its controllers to those below it only when told to. */
function delegate(dir: string): void {
  const file = join(dir, 'cgroup.controllers')
  if (!existsSync(file)) return
  for (const controller of readFileSync(file, 'utf8').trim().split(' ').filter(Boolean))
    try {
      writeFileSync(join(dir, 'cgroup.subtree_control'), `+${controller}`)
    } catch {}
}

/** Removes the group and all below it. One in which something still ends is tried again for three seconds. */
export async function removeCgroup(path: string): Promise<void> {
  for (let tries = 0; tries < 60; tries++) {
    if (trees().every((tree) => removed(join(tree, path)))) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

function removed(dir: string): boolean {
  if (!existsSync(dir)) return true
  try {
    for (const entry of readdirSync(dir, { withFileTypes: true }))
      if (entry.isDirectory()) removed(join(dir, entry.name))
    rmdirSync(dir)
    return true
  } catch {
    return !existsSync(dir)
  }
}
