import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import type { Place } from '../lab/place.ts'
import { type Page, stories } from '../scenarios/pages.ts'
import { play } from '../scenarios/play.ts'
import { type ConnectedKube, connect } from '../src/kube/cluster/connect.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { installPolynet, upgradePolynet } from './install.ts'
import { findings, kubectlOf } from './kubectl.ts'
import { clusterPlace } from './place.ts'
import { tidy } from './tidy.ts'

/** The longest pages come first, so that each part has some of them. */
const longest = ['statefulset', 'replicaset', 'whereabouts-exhausted', 'statefulset-reclaims'].map(
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

/**
 * Plays every `parts`th of the stories, from the `part`th on, one after another
 * on a cluster of its own: most of a page is waiting for pods to come and go,
 * so several parts go on at once.
 */
export function playStories(part: number, parts: number): void {
  suite(`stories on a real Kubernetes, ${part} of ${parts}`, { concurrency: 1 }, () => {
    let stage: Stage
    before(async () => {
      stage = await startStage(`stories-${part}-${process.pid}`)
    })
    after(() => stage && close(stage))

    const played = (title: string, pastWebhook: boolean) =>
      suite(title, { concurrency: 1 }, () => {
        const pages = playable.filter(({ story }) => Boolean(story.pastWebhook) === pastWebhook)
        for (const each of pages.filter((_, index) => index % parts === part - 1))
          test(`${each.story.title} (${each.page} on a cluster)`, { timeout: 600_000 }, () =>
            // A busy machine delays what a page waits for: what comes out differently twice is wrong.
            playOn(stage, each).catch((error: Error) => {
              console.error(`${each.page} is played again: ${error.message}`)
              return playOn(stage, each)
            }),
          )
      })

    played('as Polynet is installed', false)
    test('the webhook is taken away', () => upgradePolynet(stage.cluster, ['webhook.enabled=false']))
    played('past the webhook', true)

    test('after all of it nothing is left that nobody wants', { timeout: 240_000 }, async () => {
      await tidy(stage.kube)
      assert.deepEqual(await findings(kubectlOf(stage.cluster)), [])
    })
  })
}

/** A cluster on which one page at a time is played. */
interface Stage {
  cluster: Cluster
  place: Place
  kube: ConnectedKube
}

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
