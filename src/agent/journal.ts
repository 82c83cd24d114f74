/**
 * What this node holds, across crashes: a map from key to JSON value. A
 * change is durable when its promise resolves (changes made together become
 * durable together); what was durable is there after any crash, and a change
 * that was under way is there whole or not at all.
 */
export interface Journal {
  /** What the file held when it was opened, and everything put since. */
  entries(): ReadonlyMap<string, unknown>
  get(key: string): unknown
  put(key: string, value: unknown): Promise<void>
  delete(key: string): Promise<void>
  /** Several at once: all or none. `undefined` deletes. */
  write(changes: ReadonlyMap<string, unknown>): Promise<void>
  close(): Promise<void>
}
