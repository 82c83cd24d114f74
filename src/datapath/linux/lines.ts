/** How this datapath writes a link and a table; the rest is as `../lines.ts` has it. */
export const linkLine = (at: string, name: string, details: string[] = []): string =>
  ['link', at, name, ...details].join(' ')

export const tableLine = (at: string, family: string, name: string): string => `table ${at} ${family} ${name}`
