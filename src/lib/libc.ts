import koffi from 'koffi'

/**
 * The one place that knows which FFI library is used. `native` binds one
 * function of the C library by its C prototype; the call is synchronous and
 * blocks this thread. `errno()` is valid right after a call on this thread.
 */
const library = koffi.load('libc.so.6')

// biome-ignore lint/suspicious/noExplicitAny: a prototype in text has no type that TypeScript could check
export const native = (prototype: string): ((...args: any[]) => any) => library.func(prototype)

export const errno = (): number => koffi.errno()

export const errnoName = (code: number): string =>
  Object.entries(koffi.os.errno).find(([, value]) => value === code)?.[0] ?? `errno ${code}`
