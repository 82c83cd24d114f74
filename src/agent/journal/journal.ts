/**
 * What this node holds, across crashes: a map from key to JSON value. A
 * change is durable when its promise resolves (changes made together become
 * durable together), and is seen from then on; what was durable is there
 * after any crash, and a change that was under way is there whole or not at
 * all. A change that cannot be made durable rejects with a Fault and leaves
 * everything as it was.
 */
export interface Journal {
  /** What the file held when it was opened, and everything put since. */
  entries(): ReadonlyMap<string, unknown>
  get(key: string): unknown
  put(key: string, value: unknown): Promise<void>
  delete(key: string): Promise<void>
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
