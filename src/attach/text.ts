import { inAscii } from '../lib/ascii.ts'

/**
 * Attackers' text, made fit for an error message: one line of printable
 * ASCII, cut after 48 characters, in quotes unless it is a plain word.
 */
export function shown(input: string): string {
  const cut = input.length > 48 ? `${input.slice(0, 48)}…` : input
  if (/^[A-Za-z0-9._:/@-]+$/.test(cut)) return cut
  return inAscii(JSON.stringify(cut))
}

/** What a JSON value is, in a message: its text when it is short and plain, else its kind. */
export function shownValue(value: unknown): string {
  if (typeof value === 'string') return shown(value)
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' ? 'an object' : String(value)
}

/** RFC 1123 label: what a namespace is called. */
export const isLabel = (text: string): boolean =>
  text.length <= 63 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(text)

/** RFC 1123 subdomain: what most Kubernetes objects are called. */
export const isSubdomain = (text: string): boolean =>
  text.length <= 253 && text.split('.').every((part) => /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(part))
