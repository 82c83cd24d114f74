import { type Prefix, sizeOf } from '../lib/ip.ts'

/** Consecutive addresses of one family, or consecutive blocks, as numbers; both ends belong to it. */
export interface Interval {
  first: bigint
  last: bigint
}

export const intervalOf = (p: Prefix): Interval => ({ first: p.value, last: p.value + sizeOf(p) - 1n })

/** The same numbers in ascending, disjoint intervals that do not touch. */
export function merged(intervals: Interval[]): Interval[] {
  const result: Interval[] = []
  for (const next of [...intervals].sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))) {
    if (next.first > next.last) continue
    const before = result.at(-1)
    if (!before || next.first > before.last + 1n) result.push({ ...next })
    else if (next.last > before.last) before.last = next.last
  }
  return result
}

/** What is in `from` and in none of `holes`. */
export function without(from: Interval[], holes: Interval[]): Interval[] {
  let left = merged(from)
  for (const hole of merged(holes))
    left = left.flatMap((i) =>
      hole.last < i.first || hole.first > i.last
        ? [i]
        : [
            { first: i.first, last: hole.first - 1n },
            { first: hole.last + 1n, last: i.last },
          ].filter((rest) => rest.first <= rest.last),
    )
  return left
}

/** What is in both. */
export const within = (intervals: Interval[], bounds: Interval): Interval[] =>
  intervals
    .map((i) => ({
      first: i.first > bounds.first ? i.first : bounds.first,
      last: i.last < bounds.last ? i.last : bounds.last,
    }))
    .filter((i) => i.first <= i.last)

export const holds = (intervals: Interval[], value: bigint): boolean =>
  intervals.some((i) => value >= i.first && value <= i.last)

export const countOf = (intervals: Interval[]): bigint =>
  intervals.reduce((sum, i) => sum + i.last - i.first + 1n, 0n)

/** The `index`th number of ascending intervals, counted from 0. */
export function nth(intervals: Interval[], index: bigint): bigint | undefined {
  let rest = index
  for (const { first, last } of intervals) {
    if (rest <= last - first) return first + rest
    rest -= last - first + 1n
  }
  return undefined
}

/** The place of `value` among the numbers of ascending intervals, counted from 0. */
export function indexOf(intervals: Interval[], value: bigint): bigint | undefined {
  let before = 0n
  for (const { first, last } of intervals) {
    if (value >= first && value <= last) return before + value - first
    before += last - first + 1n
  }
  return undefined
}
