import type { Figures } from '../figures.ts'
import { startPlace } from './place.ts'
import { rows, type Size } from './rows.ts'

/** Polynet beside Multus, Whereabouts and the reference plugins, doing the same work on the same real cluster. */
export async function peers(options: { small: boolean; rows?: string[] }): Promise<Figures[]> {
  const wanted = options.rows ?? Object.keys(rows)
  const unknown = wanted.find((name) => !rows[name])
  if (unknown !== undefined)
    throw new Error(
      `measure ${unknown} beside the peers: there is no such row; ${Object.keys(rows).join(', ')}`,
    )
  const say = (line: string) => console.error(line)
  const size: Size = (sizes) => (options.small ? sizes.small : sizes.full)
  const place = await startPlace(say)
  try {
    const found: Figures[] = [
      {
        title: 'How both sides are configured',
        columns: [''],
        rows: place.configuration.map((line) => [line]),
      },
    ]
    for (const name of wanted) {
      say(`measuring ${name}`)
      found.push(...(await rows[name]!.measure(place, size)))
    }
    return found
  } finally {
    await place.close()
  }
}
