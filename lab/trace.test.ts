import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { say } from '../scenarios/kubectl.ts'
import { bootLab, initOf, labDir } from './boot.ts'
import { type Controlled, sockets } from './control.ts'
import { wayIn } from './enter.ts'

/** `polynet trace` beside an agent of a lab, which shows what the manual page says. */

const way = wayIn()
const skip = way.how === 'none' ? way.why : false
const name = `trace-${process.pid}`
const page = readFileSync(join(import.meta.dirname, '../docs/doctor.md'), 'utf8')

const web = `
apiVersion: polynet.dev/v1alpha1
kind: Network
metadata: { name: blue }
spec: { subnets: [{ cidr: 10.1.0.0/16 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web, annotations: { networks: blue } }
spec:
  nodeName: n1
  containers: [{ name: main, image: busybox }]
`

let lab: Controlled

before(async () => {
  if (way.how === 'none') return
  lab = (await bootLab(way, { name, wiring: { nodes: ['n1', 'n2'], nics: ['eth1'] } })).place
  await say(lab, 'apply -f -', web)
  await say(lab, 'wait pod web --for=condition=Ready')
})
after(() => lab?.close())

const main = join(import.meta.dirname, '../src/polynet/main.ts')

/** `polynet trace` with these arguments, its files those of the node. */
async function trace(node: string, ...args: string[]): Promise<{ exit: number; output: string }> {
  const user = process.getuid?.() === 0 ? [] : ['--user', '--preserve-credentials']
  const root = join(labDir(name), 'nodes', node)
  const more = ['--root', root, '--api', `unix:${sockets(labDir(name)).people}`]
  const into = [`--target=${initOf(name)}`, ...user, '--mount', '--pid', '--net', '--']
  try {
    const asked = promisify(execFile)('nsenter', [...into, process.execPath, main, 'trace', ...args, ...more])
    return { exit: 0, output: (await asked).stdout }
  } catch (error) {
    const { code, stdout = '', stderr = '' } = error as { code: number; stdout?: string; stderr?: string }
    return { exit: code, output: `${stdout}${stderr}` }
  }
}

/** Without what differs each time, how wide that is, and whether it had to wait. */
const neutral = (text: string): string =>
  text
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '<time>')
    .replaceAll(/\d+\.\d\b/g, '<ms>')
    .split('\n')
    .filter((line) => !/its turn came|not taken yet|network-status written/.test(line))
    .map((line) => line.replaceAll(/ +/g, ' '))
    .join('\n')

for (const command of ['add', 'del'])
  test(`the steps of a pod's ${command.toUpperCase()}, as the manual page has them`, { skip }, async () => {
    if (command === 'del') await say(lab, 'delete pod web')
    const { exit, output } = await trace('n1', command, 'web')
    assert.equal(exit, 0, output)
    const example = page.split(` -- polynet trace ${command} web\n`)[1]?.split('```')[0]
    assert.equal(neutral(output), neutral(example ?? ''))
  })

test('and as JSON', { skip }, async () => {
  const { output } = await trace('n1', 'add', 'web', '-o', 'json')
  const { command, namespace, pod, steps, ms } = JSON.parse(output)
  assert.deepEqual({ command, namespace, pod }, { command: 'ADD', namespace: 'default', pod: 'web' })
  assert.ok(steps.every((step: { ms: number }) => step.ms <= ms))
})

const refused: [title: string, args: string[], exit: number, says: RegExp][] = [
  ['a pod that was never there', ['add', 'nobody'], 4, /there is no such pod/],
  ['another format', ['add', 'web', '-o', 'yaml'], 2, /there is json/],
  ['another command', ['check', 'web'], 2, /Allowed choices are add, del/],
]
for (const [title, args, exit, says] of refused)
  test(`${title} is refused`, { skip }, async () => {
    const found = await trace('n1', ...args)
    assert.equal(found.exit, exit, found.output)
    assert.match(found.output, says)
  })

test('a node where it is not says which one it is on', { skip }, async () => {
  await say(lab, 'apply -f -', web.replace('name: web', 'name: other'))
  await say(lab, 'wait pod other --for=condition=Ready')
  const { exit, output } = await trace('n2', 'add', 'other')
  assert.equal(exit, 4, output)
  assert.match(output, /the agent of this node has none, and the pod is on node n1;/)
})
