import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

const root = join(import.meta.dirname, '..')
const lines = readFileSync(join(import.meta.dirname, 'Containerfile'), 'utf8')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))

test('every line of the Containerfile is an instruction, and all that it copies is there', () => {
  for (const line of lines) assert.match(line, /^(FROM|RUN|WORKDIR|COPY|ENV|USER|ENTRYPOINT) \S/)
  const copied = lines
    .filter((line) => line.startsWith('COPY ') && !line.includes('--from='))
    .flatMap((line) => line.split(' ').slice(1, -1))
  assert.ok(copied.includes('src'))
  assert.deepEqual(
    copied.filter((path) => !existsSync(join(root, path))),
    [],
  )
})

test('the program that it runs imports nothing from folders that it does not copy', () => {
  const copied = lines
    .filter((line) => line.startsWith('COPY '))
    .flatMap((line) => line.split(' ').slice(1, -1))
  const seen = new Set<string>()
  const follow = (path: string): void => {
    if (seen.has(path)) return
    seen.add(path)
    for (const [, near = ''] of readFileSync(path, 'utf8').matchAll(/\bfrom '(\.[^']+)'/g))
      follow(join(path, '..', near))
  }
  follow(join(import.meta.dirname, 'cli.ts'))
  const folders = [...seen].map((path) => path.slice(root.length + 1).split('/')[0])
  assert.deepEqual(
    folders.filter((folder) => !copied.includes(folder ?? '')),
    [],
  )
})
