import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import type { Place } from '../lab/place.ts'
import { stories } from '../scenarios/pages.ts'
import { play } from '../scenarios/play.ts'
import { type ConnectedKube, connect } from '../src/kube/cluster/connect.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { installPolynet } from './install.ts'
import { findings, kubectlOf } from './kubectl.ts'
import { clusterPlace } from './place.ts'
import { tidy } from './tidy.ts'

/** The stories of `scenarios/` and of the manual, one after another on one real cluster. */
const playable = stories.filter(({ story }) => story.only !== 'sim' && story.notOn !== 'cluster')

suite('stories on a real Kubernetes', { concurrency: 1 }, () => {
  let cluster: Cluster
  let place: Place
  let kube: ConnectedKube

  before(async () => {
    cluster = await startCluster({ name: `stories-${process.pid}`, nodes: 3, defaultNetwork: 'none' })
    await installPolynet(cluster)
    place = await clusterPlace(cluster)
    kube = await connect(cluster.kubeconfig)
    await place.ready()
  })
  after(async () => {
    kube?.close()
    await place?.close()
    await cluster?.close()
  })

  const played = (pastWebhook: boolean) => {
    for (const { page, story } of playable.filter((each) => Boolean(each.story.pastWebhook) === pastWebhook))
      test(`${story.title} (${page} on a cluster)`, { timeout: 300_000 }, async () => {
        const once = async () => {
          for (const node of await cluster.nodes()) {
            await cluster.start(node)
            await cluster.plug(node, 'all', true)
          }
          await place.ready()
          await tidy(kube)
          await play(story, place, page)
        }
        // A busy machine delays what a page waits for: what comes out differently twice is wrong.
        await once().catch((error: Error) => {
          console.error(`played again: ${error.message}`)
          return once()
        })
      })
  }
  played(false)
  test('the webhook is taken away', () => installPolynet(cluster, ['webhook.enabled=false']))
  played(true)

  test('after all of it nothing is left that nobody wants', { timeout: 240_000 }, async () => {
    await tidy(kube)
    assert.deepEqual(await findings(kubectlOf(cluster)), [])
  })
})
