/** Rows under headings, each column as wide as its widest cell, as kubectl prints them. No line ends in a blank. */
export function tableText(headings: string[], rows: string[][]): string {
  const widths = headings.map((heading, i) =>
    Math.max(heading.length, ...rows.map((row) => (row[i] ?? '').length)),
  )
  const line = (cells: string[]) =>
    widths
      .map((width, i) => (cells[i] ?? '').padEnd(width))
      .join('   ')
      .trimEnd()
  return [headings, ...rows].map(line).join('\n')
}
