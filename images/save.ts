import { randomUUID } from 'node:crypto'
import { closeSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { archiveOf, type Image } from './archive.ts'

/** Puts the pieces of an archive on the disk, in one step. */
export function save(pieces: Uint8Array[], path: string): void {
  mkdirSync(dirname(path), { recursive: true })
  const fresh = `${path}.${randomUUID()}`
  const handle = openSync(fresh, 'w', 0o644)
  try {
    for (const piece of pieces) writeFileSync(handle, piece)
    renameSync(fresh, path)
  } finally {
    closeSync(handle)
    rmSync(fresh, { force: true })
  }
}

/** Writes an image to a file that `ctr images import` and `docker load` take. */
export const saveImage = (image: Image, path: string): void => save(archiveOf(image).pieces, path)
