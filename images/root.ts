import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type Entry, sorted } from './tar.ts'

/** Puts an image's files into the empty folder `dir`, for `COPY` in a Containerfile. They belong to whoever runs this. */
export function writeRoot(layers: Entry[][], dir: string): void {
  const entries = sorted(layers.flat())
  for (const entry of entries) {
    const path = join(dir, entry.path)
    mkdirSync(dirname(path), { recursive: true })
    if (entry.kind === 'directory') mkdirSync(path, { recursive: true })
    else if (entry.kind === 'link') symlinkSync(entry.target, path)
    else writeFileSync(path, entry.bytes)
    // Whatever the umask is.
    if (entry.kind !== 'link') chmodSync(path, entry.mode)
  }
}
