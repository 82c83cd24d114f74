/**
 * What this node holds, across crashes: a map from key to JSON value. A
 * change is durable when its promise resolves (changes made together become
 * durable together), and is seen from then on; what was durable is there
 * after any crash, and a change that was under way is there whole or not at
 * all. A change that cannot be made durable rejects with a Fault and leaves
 * everything as it was. A value that was given away to it is changed by nobody.
 */
export interface Journal {
  /** What the file held when it was opened, and everything put since. */
  entries(): ReadonlyMap<string, unknown>
  get(key: string): unknown
  put(key: string, value: unknown): Promise<void>
  delete(key: string): Promise<void>
  /** These fields of the object under `key` become so, the others stay; null takes one out. Nothing there: nothing happens. */
  amend(key: string, fields: Record<string, unknown>): Promise<void>
  /** Several at once: all or none. `undefined` deletes. */
  write(changes: ReadonlyMap<string, unknown>): Promise<void>
  /**
   * What was held when the machine went down, if it was booted since: void,
   * but for what its reader puts anew. Kept, also over further boots, until
   * its reader says that it need not be any more.
   */
  readonly previousBoot: ReadonlyMap<string, unknown>
  /** Forgets the previous boot, or only those of its keys that begin with `prefix`. */
  forgetPreviousBoot(prefix?: string): Promise<void>
  /** Makes durable what is under way; nothing can be written after it. */
  close(): Promise<void>
}

/** The object with these fields, less those that are null. */
export function amended(value: unknown, fields: Record<string, unknown>): Record<string, unknown> {
  const all: Record<string, unknown> = { ...(value as object) }
  for (const [name, field] of Object.entries(fields))
    if (field === null) delete all[name]
    else all[name] = field
  return all
}
