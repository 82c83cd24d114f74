import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Place } from '../lab/place.ts'
import { type Page, stories } from '../scenarios/pages.ts'
import { play } from '../scenarios/play.ts'
import { type ConnectedKube, connect } from '../src/kube/cluster/connect.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { installPolynet, upgradePolynet } from './install.ts'
import { findings, kubectlOf } from './kubectl.ts'
import { clusterPlace } from './place.ts'
import { tidy } from './tidy.ts'

/** A cluster on which one page at a time is played. */
interface Stage {
  cluster: Cluster
  place: Place
  kube: ConnectedKube
}

/** Most of a page is waiting for pods to come and go. */
const stageCount = 2

/** The longest pages come first, so that none is left to be waited for in the end. */
const longest = ['statefulset', 'replicaset', 'statefulset-reclaims', 'whereabouts-exhausted'].map(
  (name) => `/${name}.md`,
)
const rank = ({ page }: Page): number => {
  const at = longest.findIndex((name) => page.endsWith(name))
  return at < 0 ? longest.length : at
}

/** The stories of `scenarios/` and of the manual. */
const playable = stories
  .filter(({ story }) => story.only !== 'sim' && story.notOn !== 'cluster')
  .sort((a, b) => rank(a) - rank(b))

suite('stories on a real Kubernetes', { concurrency: 1 }, () => {
  const stages: Stage[] = []
  const free: Stage[] = []

  before(async () => {
    const starting = Array.from({ length: stageCount }, (_, i) => startStage(`stories-${i}-${process.pid}`))
    // Those that have started are ended when another one has not.
    for (const each of await Promise.allSettled(starting))
      if (each.status === 'fulfilled') stages.push(each.value)
    await Promise.all(starting)
    free.push(...stages)
  })
  after(() => Promise.all(stages.map(close)))

  /** One is free at once but after a page that went on when its time was up. */
  const freeOne = async (): Promise<Stage> => {
    for (;;) {
      const stage = free.shift()
      if (stage) return stage
      await sleep(200)
    }
  }

  const played = (title: string, pastWebhook: boolean) =>
    suite(title, { concurrency: stageCount }, () => {
      for (const each of playable.filter(({ story }) => Boolean(story.pastWebhook) === pastWebhook))
        test(`${each.story.title} (${each.page} on a cluster)`, { timeout: 600_000 }, async () => {
          const stage = await freeOne()
          try {
            // A busy machine delays what a page waits for: what comes out differently twice is wrong.
            await playOn(stage, each).catch((error: Error) => {
              console.error(`${each.page} is played again: ${error.message}`)
              return playOn(stage, each)
            })
          } finally {
            free.push(stage)
          }
        })
    })

  played('as Polynet is installed', false)
  test('the webhook is taken away', async () => {
    await Promise.all(stages.map(({ cluster }) => upgradePolynet(cluster, ['webhook.enabled=false'])))
  })
  played('past the webhook', true)

  test('after all of it nothing is left that nobody wants', { timeout: 240_000 }, async () => {
    for (const { cluster, kube } of stages) {
      await tidy(kube)
      assert.deepEqual(await findings(kubectlOf(cluster)), [])
    }
  })
})

async function startStage(name: string): Promise<Stage> {
  const cluster = await startCluster({ name, nodes: 3, defaultNetwork: 'none' })
  try {
    await installPolynet(cluster)
    const stage = {
      cluster,
      place: await clusterPlace(cluster),
      kube: await connect(cluster.kubeconfig),
    }
    await stage.place.ready()
    return stage
  } catch (error) {
    await cluster.close()
    throw error
  }
}

async function close({ cluster, place, kube }: Stage): Promise<void> {
  kube.close()
  await place.close()
  await cluster.close()
}

async function playOn({ cluster, place, kube }: Stage, { page, story }: Page): Promise<void> {
  for (const node of await cluster.nodes()) await cluster.start(node)
  await cluster.plug('n1', 'all', true)
  await place.ready()
  await tidy(kube)
  await play(story, place, page)
}
