/**
 * Files as tar archives and back (POSIX.1-2001, "pax"). Pure: the same entries
 * give the same bytes on any machine. Everything belongs to root, and
 * everything was written at `epochS`.
 */
export type Entry = { path: string } & (
  | { kind: 'file'; mode: number; bytes: Uint8Array }
  | { kind: 'directory'; mode: number }
  | { kind: 'link'; target: string }
)

/** A file of a tar: `mode` without the bits for another user's identity unless they are given. */
export const file = (path: string, content: Uint8Array | string, mode = 0o644): Entry => ({
  kind: 'file',
  path,
  mode,
  bytes: typeof content === 'string' ? Buffer.from(content) : content,
})

export const directory = (path: string, mode = 0o755): Entry => ({ kind: 'directory', path, mode })

export const link = (path: string, target: string): Entry => ({ kind: 'link', path, target })

/**
 * The archive in pieces, for `writev` and for hashes. Paths are relative
 * (`usr/bin/node`), sorted, and each there once: the last of several counts.
 * Directories that are missing are put in.
 */
export function tarOf(entries: Entry[], epochS = 0): Uint8Array[] {
  const pieces: Uint8Array[] = []
  for (const entry of sorted(entries)) {
    const path = entry.kind === 'directory' ? `${entry.path}/` : entry.path
    const target = entry.kind === 'link' ? entry.target : ''
    const long = [
      ...(fits(path) ? [] : [record('path', path)]),
      ...(fits(target) ? [] : [record('linkpath', target)]),
    ]
    if (long.length > 0) {
      const bytes = Buffer.from(long.join(''))
      pieces.push(
        header({ path: 'pax', type: 'x', mode: 0o644, size: bytes.length, target: '', epochS }),
        ...padded(bytes),
      )
    }
    const bytes = entry.kind === 'file' ? entry.bytes : new Uint8Array()
    const mode = entry.kind === 'link' ? 0o777 : entry.mode
    pieces.push(
      header({ path, type: typeOf[entry.kind], mode, size: bytes.length, target, epochS }),
      ...padded(bytes),
    )
  }
  pieces.push(Buffer.alloc(2 * block))
  return pieces
}

/** The entries of an archive, as `ar`, GNU tar and Debian's packages have them. A hard link is a copy of its file. */
export function entriesOf(tar: Uint8Array): Entry[] {
  const bytes = Buffer.from(tar.buffer, tar.byteOffset, tar.byteLength)
  const entries = new Map<string, Entry>()
  let long: { path?: string; target?: string } = {}
  for (let at = 0; at + block <= bytes.length && bytes[at] !== 0; ) {
    const head = bytes.subarray(at, at + block)
    const size = Number.parseInt(text(head, 124, 12), 8) || 0
    const body = bytes.subarray(at + block, at + block + size)
    at += block + Math.ceil(size / block) * block
    const type = String.fromCharCode(head[156] ?? 0)
    if (type === 'L') long.path = text(body, 0, size)
    else if (type === 'K') long.target = text(body, 0, size)
    else if (type === 'x') long = { ...long, ...longNames(body.toString()) }
    else if (type !== 'g') {
      const prefix = text(head, 257, 6) === 'ustar' ? text(head, 345, 155) : ''
      const path = normal(long.path ?? (prefix ? `${prefix}/${text(head, 0, 100)}` : text(head, 0, 100)))
      const target = long.target ?? text(head, 157, 100)
      const mode = Number.parseInt(text(head, 100, 8), 8) & 0o7777
      long = {}
      if (path === '') continue
      if (type === '5') entries.set(path, directory(path, mode))
      else if (type === '2') entries.set(path, link(path, target))
      else if (type === '1') {
        const other = entries.get(normal(target))
        if (other?.kind === 'file') entries.set(path, { ...other, path })
      } else if (type === '0' || type === '\0') entries.set(path, file(path, body, mode))
    }
  }
  return [...entries.values()]
}

const block = 512
const typeOf = { file: '0', directory: '5', link: '2' } as const

const normal = (path: string): string => path.replace(/^(\.?\/)+/, '').replace(/^\.$|\/+$/g, '')

/** Each path once, the last of several, with the directories that were not named. */
export function sorted(entries: Entry[]): Entry[] {
  const all = new Map<string, Entry>()
  for (const entry of entries) {
    const parts = entry.path.split('/')
    for (let depth = 1; depth < parts.length; depth++) {
      const parent = parts.slice(0, depth).join('/')
      if (!all.has(parent)) all.set(parent, directory(parent))
    }
    all.set(entry.path, entry)
  }
  return [...all.values()].sort((a, b) => (a.path < b.path ? -1 : 1))
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: what a header takes as it is, is ASCII
const fits = (name: string): boolean => name.length <= 100 && /^[\x01-\x7f]*$/.test(name)

/** `27 path=…\n`: its length in bytes counts itself. */
function record(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`
  const bytes = Buffer.byteLength(rest)
  let length = bytes + String(bytes).length
  length = bytes + String(length).length
  return `${length}${rest}`
}

function longNames(records: string): { path?: string; target?: string } {
  const value = (key: string) => new RegExp(`^\\d+ ${key}=(.*)$`, 'm').exec(records)?.[1]
  const [path, target] = [value('path'), value('linkpath')]
  return { ...(path !== undefined && { path }), ...(target !== undefined && { target }) }
}

interface Head {
  path: string
  type: string
  mode: number
  size: number
  target: string
  epochS: number
}

function header({ path, type, mode, size, target, epochS }: Head): Uint8Array {
  const head = Buffer.alloc(block)
  const octal = (value: number, at: number, length: number) =>
    head.write(value.toString(8).padStart(length - 1, '0'), at)
  head.write(path, 0, 100)
  octal(mode, 100, 8)
  octal(0, 108, 8)
  octal(0, 116, 8)
  octal(size, 124, 12)
  octal(epochS, 136, 12)
  head.fill(' ', 148, 156)
  head.write(type, 156)
  head.write(target, 157, 100)
  head.write('ustar\x0000', 257)
  octal(0, 329, 8)
  octal(0, 337, 8)
  octal(
    head.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  )
  return head
}

const padded = (bytes: Uint8Array): Uint8Array[] => {
  const over = bytes.length % block
  return bytes.length === 0 ? [] : over === 0 ? [bytes] : [bytes, Buffer.alloc(block - over)]
}

const text = (bytes: Buffer, at: number, length: number): string => {
  const field = bytes.subarray(at, at + length)
  const end = field.indexOf(0)
  return field.subarray(0, end === -1 ? length : end).toString()
}
