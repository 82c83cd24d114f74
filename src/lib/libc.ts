import koffi from 'koffi'

/**
 * The one place that knows which FFI library is used. `native` binds one
 * function of the C library by its C prototype; the call is synchronous and
 * blocks this thread, unless made by its `.async` with a callback at the end,
 * which blocks a thread of the pool. `errno()` is valid right after a
 * synchronous call on this thread.
 */
const library = koffi.load('libc.so.6')

export interface Native {
  // biome-ignore lint/suspicious/noExplicitAny: a prototype in text has no type that TypeScript could check
  (...args: any[]): any
  // biome-ignore lint/suspicious/noExplicitAny: as above
  async(...args: any[]): void
}

export const native = (prototype: string): Native => library.func(prototype) as unknown as Native

export const errno = (): number => koffi.errno()

const names = new Map(Object.entries(koffi.os.errno).map(([name, code]) => [code, name]))

export const errnoName = (code: number): string => names.get(code) ?? `errno ${code}`

/** The address of a buffer, for structures that point to another; the buffer must outlive the call. */
export const addressOf = (buffer: Uint8Array): bigint => koffi.address(buffer)
