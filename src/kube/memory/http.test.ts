import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { parse } from 'yaml'
import type { Pod } from '../../api/core.ts'
import { crds } from '../../api/crds.ts'
import { resources } from '../../api/resources.ts'
import { ManualClock } from '../../lib/clock.ts'
import { type ServedKube, serve } from './http.ts'
import { MemoryKube } from './store.ts'

const folder = mkdtempSync(join(tmpdir(), 'polynet-http-'))
const clock = new ManualClock()
const kube = new MemoryKube({ clock, crds: crds() })
let server: ServedKube

before(async () => {
  server = await serve(kube, {
    port: 0,
    socketPath: join(folder, 'api.sock'),
    logs: async ({ name }, container) => `${name}/${container} says\nhello\n`,
  })
  writeFileSync(join(folder, 'config'), server.kubeconfig)
})

after(async () => {
  await server.close()
  rmSync(folder, { recursive: true })
})

const pod = (name: string, nodeName?: string): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default' },
  spec: { nodeName, containers: [{ name: 'main', image: 'image:1' }] },
})

interface Got {
  code: number
  // biome-ignore lint/suspicious/noExplicitAny: whatever JSON the server answers
  body: any
}

/** One request as curl would send it. */
const ask = (
  path: string,
  {
    method = 'GET',
    body,
    ...headers
  }: { [header: string]: string | undefined; body?: string; method?: string } = {},
): Promise<Got> =>
  new Promise((resolve, reject) => {
    const sent = request(
      `${server.url}${path}`,
      { method, headers: headers as Record<string, string> },
      (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (chunk) => {
          text += chunk
        })
        response.on('error', reject).on('end', () => {
          const json = response.headers['content-type'] === 'application/json'
          resolve({ code: response.statusCode ?? 0, body: json ? JSON.parse(text) : text })
        })
      },
    )
    sent.on('error', reject)
    sent.end(body)
  })

test('the socket is for its owner only', () => {
  assert.equal((statSync(join(folder, 'api.sock')).mode & 0o777).toString(8), '600')
})

test('a browser that was led here by a name is turned away', async () => {
  assert.equal((await ask('/api/v1/pods', { host: 'evil.example' })).code, 403)
  const body = JSON.stringify(pod('smuggled'))
  const simple = await ask('/api/v1/namespaces/default/pods', {
    method: 'POST',
    body,
    'content-type': 'text/plain',
  })
  assert.equal(simple.code, 415)
})

const refusals: [string, number, string, string, string?][] = [
  [
    'GET',
    404,
    '/apis/example.dev/v1/things',
    'the server could not find the requested resource: things.example.dev example.dev/v1',
  ],
  [
    'GET',
    501,
    '/apis/apps/v1/deployments',
    'this API server does not implement deployments.apps apps/v1; use a real Kubernetes for it',
  ],
  [
    'GET',
    501,
    '/api/v1/services',
    'this API server does not implement services v1; use a real Kubernetes for it',
  ],
  [
    'POST',
    501,
    '/api/v1/namespaces/default/pods/web/exec',
    'this API server does not implement post pods/exec',
  ],
  [
    'POST',
    501,
    '/api/v1/namespaces/default/pods/web/portforward',
    'this API server does not implement post pods/portforward',
  ],
  [
    'POST',
    405,
    '/api/v1/namespaces/default/pods/web',
    'the server does not allow this method on the requested resource',
  ],
  ['GET', 404, '/nowhere', 'the server could not find the requested resource: /nowhere'],
  ['POST', 400, '/api/v1/namespaces/default/pods', 'the body is not an object', '[]'],
]
for (const [method, code, path, message, body] of refusals)
  test(`${method} ${path} is answered ${code}`, async () => {
    const got = await ask(path, { method, body, ...(body && { 'content-type': 'application/json' }) })
    assert.deepEqual(
      [got.code, got.body.kind, got.body.code, got.body.message],
      [code, 'Status', code, message],
    )
  })

test('a table has the columns and cells that Kubernetes has', async () => {
  await kube.create(resources.pods, pod('tabled', 'n1'))
  await clock.advance(125_000)
  const { body } = await ask('/api/v1/namespaces/default/pods?fieldSelector=metadata.name=tabled', {
    accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json',
  })
  assert.equal(body.kind, 'Table')
  assert.equal(
    body.columnDefinitions
      .map((c: { name: string; priority: number }) => `${c.name}:${c.priority}`)
      .join(' '),
    'Name:0 Ready:0 Status:0 Restarts:0 Age:0 IP:1 Node:1 Nominated Node:1 Readiness Gates:1',
  )
  assert.deepEqual(body.rows[0].cells, [
    'tabled',
    '0/1',
    'Pending',
    '0',
    '2m5s',
    '<none>',
    'n1',
    '<none>',
    '<none>',
  ])
  assert.equal(body.rows[0].object.kind, 'PartialObjectMetadata')
  await kube.delete(resources.pods, { namespace: 'default', name: 'tabled' }, { gracePeriodSeconds: 0 })
})

test('an outage drops connections and refuses new ones until it ends', async () => {
  const watch = ask('/api/v1/pods?watch=true').then(
    () => 'ended',
    () => 'broken',
  )
  await new Promise((resolve) => setTimeout(resolve, 50))
  await server.outage(true)
  assert.equal(await watch, 'broken')
  await assert.rejects(ask('/readyz'), /ECONNREFUSED/)
  await server.outage(false)
  assert.equal((await ask('/readyz')).body, 'ok')
})

function kubectlAbsence(): string | false {
  try {
    execFileSync('kubectl', ['version', '--client'], { stdio: 'ignore' })
    return false
  } catch {
    return 'kubectl is not installed'
  }
}

describe('kubectl', { skip: kubectlAbsence() }, () => {
  /** What kubectl prints, on either stream. */
  const kubectl = (command: string, stdin = ''): Promise<string> =>
    new Promise((resolve) => {
      const args = ['--kubeconfig', join(folder, 'config'), '--cache-dir', join(folder, 'cache')]
      const words = (command.match(/(?:'[^']*'|[^\s'])+/g) ?? []).map((word) => word.replaceAll("'", ''))
      const child = execFile(
        'kubectl',
        [...args, ...words],
        { timeout: 30_000, env: { ...process.env, KUBECTL_EXTERNAL_DIFF: '' } },
        (_, out, err) => resolve(`${out}${err}`.trimEnd()),
      )
      child.stdin?.end(stdin && JSON.stringify(parse(stdin)))
    })

  const blue = (more = '') =>
    `{apiVersion: polynet.dev/v1alpha1, kind: Network, metadata: {name: blue}, spec: {subnets: [{cidr: 10.1.0.0/16}]${more}}}`
  const web = (image: string) =>
    `{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {nodeName: n1, containers: [{name: main, image: '${image}', env: [{name: A, value: '1'}]}]}}`

  const steps: [string, string | RegExp, string?][] = [
    ['create namespace lab', 'namespace/lab created'],
    ['create configmap settings --from-literal=a=b', 'configmap/settings created'],
    ["get configmap settings -o jsonpath='{.data}'", '{"a":"b"}'],
    [
      'apply -f -',
      'configmap/one created\nconfigmap/two created',
      '{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: one}}, {apiVersion: v1, kind: ConfigMap, metadata: {name: two}}]}',
    ],
    ['apply -f -', 'network.polynet.dev/blue created', blue()],
    ['apply -f -', 'network.polynet.dev/blue unchanged', blue()],
    ['apply -f -', 'network.polynet.dev/blue configured', blue(', primary: true')],
    ['apply -f -', /unknown field "spec\.sweet"/, blue(', sweet: true')],
    ['apply -f -', /spec: Invalid value: "object": mtu cannot be changed/, blue(', mtu: 1400')],
    ['apply --server-side -f -', /NotImplemented.*no server-side apply/, blue()],
    ['get network blue -o name', 'network.polynet.dev/blue'],
    ['get pn', /^NAME +PHYSICAL +PLUGIN +TOPOLOGY .* AGE\nblue +polynet /],
    ['explain network.spec.subnets.cidr', /FIELD: cidr <string>/],
    ['explain pod.spec.containers', /image\t<string>/],
    ['apply -f -', 'pod/web created', web('image:1')],
    ['apply -f -', 'pod/web configured', web('image:2')],
    ["get pod web -o jsonpath='{.spec.containers[0].image} {.spec.containers[0].env[0].name}'", 'image:2 A'],
    ['get pods', 'NAME   READY   STATUS    RESTARTS   AGE\nweb    0/1     Pending   0          0s'],
    ['label pod web tier=front', 'pod/web labeled'],
    ['annotate network blue note=1', 'network.polynet.dev/blue annotated'],
    ['get pods -l tier=front -o name', 'pod/web'],
    ['get pods --field-selector spec.nodeName=n2', 'No resources found in default namespace.'],
    ['logs web', 'web/main says\nhello'],
    ['logs web --tail=1', 'hello'],
    ['describe pod web', /Node: +n1\/.*Image: +image:2.*Events: +<none>/s],
    [
      'create -f -',
      'event/web.1 created',
      '{apiVersion: v1, kind: Event, metadata: {name: web.1}, type: Normal, reason: Attached, message: got 10.1.0.7, lastTimestamp: "2026-01-01T00:00:00Z", involvedObject: {apiVersion: v1, kind: Pod, namespace: default, name: web}}',
    ],
    [
      'get events',
      /^LAST SEEN +TYPE +REASON +OBJECT +MESSAGE\n\S+ +Normal +Attached +pod\/web +got 10\.1\.0\.7$/,
    ],
    [
      `patch network blue --subresource=status --type=merge -p '{"status":{"conditions":[{"type":"Ready","status":"True","reason":"Rendered","message":"on 1 node","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}'`,
      'network.polynet.dev/blue patched',
    ],
    ['wait network/blue --for=condition=Ready --timeout=10s', 'network.polynet.dev/blue condition met'],
    ['patch pod web -p {"spec":{"containers":[{"name":"main","image":"image:3"}]}}', 'pod/web patched'],
    ['diff -f -', '', blue(', primary: true')],
    ['exec web -- ls', /NotImplemented.*pods\/exec/],
    ['get deployments', /the server doesn't have a resource type "deployments"/],
    ['delete pod web --grace-period=0 --force', /pod "web" force deleted/],
    ['delete network blue', 'network.polynet.dev "blue" deleted'],
    ['delete namespace lab', 'namespace "lab" deleted'],
    ['get networks -A', 'No resources found'],
    ['get pod web', 'Error from server (NotFound): pods "web" not found'],
  ]

  test('works as with a real server', async (t) => {
    for (const [command, expected, stdin] of steps)
      await t.test(`kubectl ${command}`, async () => {
        const printed = await kubectl(command, stdin)
        if (typeof expected === 'string') assert.equal(printed, expected)
        else assert.match(printed, expected)
      })
  })

  test('version and api-resources tell what there is', async () => {
    assert.match(await kubectl('version'), /Server Version: v1\.\d+/)
    const listed = await kubectl('api-resources --no-headers -o name')
    assert.deepEqual(
      listed.split('\n').filter((line) => /^(pods|leases|networks)/.test(line)),
      ['pods', 'leases.coordination.k8s.io', 'networks.polynet.dev'],
    )
  })
})
