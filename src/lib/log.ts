import pino from 'pino'

/** Structured lines on stderr: a sentence, and the fields that a search would use. */
export interface Log {
  debug(message: string, fields?: object): void
  info(message: string, fields?: object): void
  warn(message: string, fields?: object): void
  error(message: string, fields?: object): void
}

/** JSON lines, as `component` (agent, controller, lab). `level` is pino's: debug, info, warn, error, silent. */
export function jsonLog(component: string, level = process.env.POLYNET_LOG ?? 'info'): Log {
  const base = { component }
  const out = pino(
    { level, base, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 2, sync: true }),
  )
  return {
    debug: (message, fields) => out.debug(fields ?? {}, message),
    info: (message, fields) => out.info(fields ?? {}, message),
    warn: (message, fields) => out.warn(fields ?? {}, message),
    error: (message, fields) => out.error(fields ?? {}, message),
  }
}

export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} }
