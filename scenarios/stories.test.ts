import { after, suite, test } from 'node:test'
import { bootLab } from '../lab/boot.ts'
import { wayIn } from '../lab/enter.ts'
import type { Place } from '../lab/place.ts'
import { startSim } from '../sim/sim.ts'
import { stories } from './pages.ts'
import { play } from './play.ts'

const wiring = { nodes: ['n1', 'n2', 'n3'], nics: ['eth1', 'eth2'] }
const way = wayIn()

const places: Record<'sim' | 'lab', () => Promise<Place>> = {
  sim: () => startSim(wiring),
  lab: async () => {
    if (way.how === 'none') throw new Error(way.why)
    const name = `story-${process.pid}-${++labs}`
    return (await bootLab(way, { name, wiring })).place
  },
}
let labs = 0

const open = new Set<Place>()
after(() => Promise.all([...open].map((place) => place.close())))

// Most of a story is waiting; two labs share two cores well.
for (const [kind, concurrency] of [
  ['sim', 4],
  ['lab', 2],
] as const)
  suite(`stories on ${kind}`, { concurrency }, () => {
    for (const { page, story } of stories) {
      if (story.only && story.only !== kind) continue
      const skip = kind === 'lab' && way.how === 'none' ? way.why : false
      test(`${story.title} (${page} on ${kind})`, { skip, timeout: 300_000 }, async () => {
        const place = await places[kind]()
        open.add(place)
        try {
          await play(story, place, page)
        } finally {
          open.delete(place)
          await place.close()
        }
      })
    }
  })
