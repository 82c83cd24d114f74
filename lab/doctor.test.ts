import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { say } from '../scenarios/kubectl.ts'
import type { AttachmentSlice } from '../src/api/attachment-slice.ts'
import type { Pod } from '../src/api/core.ts'
import { bootLab, initOf, labDir } from './boot.ts'
import { type Controlled, sockets } from './control.ts'
import { wayIn } from './enter.ts'
import { endpointsOf } from './reach.ts'

/** The doctor on a node of a lab: it finds nothing, then exactly the damage that is done. */

const way = wayIn()
const skip = way.how === 'none' ? way.why : false
const name = `doctor-${process.pid}`
const root = join(labDir(name), 'nodes/n1')
const bystanders = readFileSync(join(import.meta.dirname, '../scenarios/bystanders.yaml'), 'utf8')

let lab: Controlled

before(async () => {
  if (way.how === 'none') return
  lab = (await bootLab(way, { name, wiring: { nodes: ['n1', 'n2'], nics: ['eth1'] } })).place
  await say(lab, 'apply -f -', bystanders)
  await say(lab, 'wait pods --all --for=condition=Ready')
})
after(() => lab?.close())

/** Runs a program in the lab, in the network of one of its nodes. */
async function onNode(node: string, ...argv: string[]): Promise<{ exit: number; output: string }> {
  const user = process.getuid?.() === 0 ? [] : ['--user', '--preserve-credentials']
  const enter = [`--target=${initOf(name)}`, ...user, '--mount', '--pid', '--net', '--']
  const there = ['nsenter', `--net=${join(labDir(name), 'netns', node)}`, '--', ...argv]
  try {
    const { stdout } = await promisify(execFile)('nsenter', [...enter, ...there])
    return { exit: 0, output: stdout }
  } catch (error) {
    const { code, stdout = '', stderr = '' } = error as { code: number; stdout?: string; stderr?: string }
    return { exit: code, output: `${stdout}${stderr}` }
  }
}

const main = join(import.meta.dirname, '../src/polynet/main.ts')
const doctor = (...args: string[]) =>
  onNode('n1', process.execPath, main, 'doctor', '--api', `unix:${sockets(labDir(name)).people}`, ...args)
const here = ['--node', 'n1', '--root', root, '--settle', '3']

const healthy = 'node n1: kernel, journal, addresses, attachments and pods agree\n'
const isHealthy = async () => assert.deepEqual(await doctor(...here), { exit: 0, output: healthy })

test('a cluster where all is well has nothing wrong', { skip }, async () => {
  await isHealthy()
  assert.deepEqual(await doctor(), {
    exit: 0,
    output: 'addresses, attachments and pods agree, as the API server has them\n',
  })
})

test('the manual page shows what it prints', { skip }, () => {
  const page = readFileSync(join(import.meta.dirname, '../docs/doctor.md'), 'utf8')
  const found = damages.flatMap((each) => each.found)
  assert.ok(page.includes(`\n${healthy}`))
  assert.ok(page.split('\n').some((line) => found.some((pattern) => pattern.test(line))))
})

test('another node than the one it runs on is refused', { skip }, async () => {
  assert.deepEqual(await doctor('--node', 'n2', '--root', root), {
    exit: 2,
    output: 'look at node n2: this is node n1; run it on n2\n',
  })
})

interface Damage {
  title: string
  does: () => Promise<unknown>
  undoes: () => Promise<unknown>
  found: RegExp[]
}

const stray = 'pn0123456789ab'
const restart = 'restart the agent of n1 \\(delete its pod\\), which puts the kernel right'
const netns = join(root, 'run/polynet/netns/pn-0123456789ab')

const damages: Damage[] = [
  {
    title: 'an interface without a pod, with all that leads to it',
    does: async () => {
      // An agent that runs takes it away within a second.
      await lab.kill('n1', 'agent')
      await onNode('n1', 'ip', 'link', 'add', stray, 'type', 'veth', 'peer', 'name', 'inside')
      await onNode('n1', 'ip', 'link', 'set', stray, 'up')
      await onNode('n1', 'ip', 'route', 'add', '10.244.9.9/32', 'dev', stray, 'proto', '80')
    },
    undoes: () => lab.start('n1'),
    found: [new RegExp(`^node n1: link ${stray} in namespace host belongs to no pod; ${restart}$`)],
  },
  {
    title: "a route to a pod's interface that is not the pod's",
    does: async () => {
      const [port] = (await lab.leftovers('n1')).filter((line) => /^link host pn[0-9a-f]{12} /.test(line))
      await onNode(
        'n1',
        'ip',
        'route',
        'add',
        '10.244.9.9/32',
        'dev',
        port?.split(' ')[2] ?? '',
        'proto',
        '80',
      )
    },
    undoes: async () => {
      await lab.kill('n1', 'agent')
      await lab.start('n1')
    },
    found: [
      new RegExp(`^node n1: route host 10.244.9.9/32 link pn[0-9a-f]{12} belongs to no pod; ${restart}$`),
    ],
  },
  {
    title: 'a namespace without a network',
    does: async () => {
      await onNode('n1', 'touch', netns)
      await onNode('n1', 'unshare', `--net=${netns}`, 'true')
    },
    undoes: async () => {
      await onNode('n1', 'umount', netns)
      await onNode('n1', 'rm', netns)
    },
    found: [new RegExp(`^node n1: namespace pn-0123456789ab belongs to no network; ${restart}$`)],
  },
  {
    title: "a pod's interface that is gone",
    does: () => lab.exec('default/stays-1', ['ip', 'link', 'del', 'eth1']),
    undoes: () => remade('stays-1'),
    found: [new RegExp(`^node n1: .*eth1.*; ${restart}$`)],
  },
  {
    title: 'an attachment that the journal does not have',
    does: async () => {
      const slice = await sliceOf('n1')
      const pod = JSON.parse(await say(lab, 'get pod stays-1 -o json')) as Pod
      const [own] = endpointsOf(pod).filter((each) => each.interface === 'eth1')
      assert.ok(own)
      slice.attachments.push({
        ...{ pod: 'stays-1', podNamespace: 'default', podUID: pod.metadata.uid ?? '' },
        ...{ containerID: 'f00d', interface: 'eth1', ips: own.addresses },
      })
      await say(lab, 'apply -f -', JSON.stringify(slice))
    },
    // Nobody watches slices of Layer3 networks: agents read theirs every ten minutes, and when they start.
    undoes: async () => {
      await lab.kill('n1', 'agent')
      await lab.start('n1')
    },
    found: [
      /^node n1: AttachmentSlice .* which the journal does not have; the agent writes it within ten minutes/,
    ],
  },
]

/** One of the node's, which it writes within a second of its pods. */
async function sliceOf(node: string): Promise<AttachmentSlice> {
  for (const end = Date.now() + 30_000; ; await new Promise((resolve) => setTimeout(resolve, 200))) {
    const list: { items?: AttachmentSlice[] } = JSON.parse(
      await say(lab, 'get attachmentslices -n default -o json'),
    )
    const slice = list.items?.find((each) => each.node === node)
    if (slice) return slice
    if (Date.now() > end) throw new Error(`node ${node} has no slice after 30 s`)
  }
}

/** Deleted and made again, so that the agent makes right what belongs to it. */
async function remade(pod: string): Promise<void> {
  await say(lab, `delete pod ${pod}`)
  await say(lab, 'apply -f -', bystanders)
  await say(lab, 'wait pods --all --for=condition=Ready')
}

for (const { title, does, undoes, found } of damages)
  test(`it finds ${title}, and nothing else`, { skip }, async () => {
    await does()
    const { exit, output } = await doctor(...here)
    const lines = output.trim().split('\n')
    const rest = lines.filter((line) => !found.some((pattern) => pattern.test(line)))
    assert.deepEqual(
      { exit, rest, kinds: found.map((pattern) => lines.some((line) => pattern.test(line))) },
      {
        exit: 1,
        rest: [],
        kinds: found.map(() => true),
      },
    )
    await undoes()
    await isHealthy()
  })
