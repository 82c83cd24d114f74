/**
 * Text that others chose, for a message: one line in which every character is
 * printable ASCII, or the `…` of one that was cut. What is none is written
 * `\u202e`. JSON alone leaves characters that terminals obey, and those that
 * change the direction of reading.
 */
export const inAscii = (text: string): string =>
  text.replace(/[^ -~…]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
