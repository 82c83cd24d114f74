import type { ServedKind } from './kind.ts'

/** /openapi/v3: what `kubectl explain` reads, and how clients learn what the server can do. */
export function openapi(_path: string, _kinds: readonly ServedKind[]): object | undefined {
  return undefined
}
