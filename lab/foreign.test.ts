import assert from 'node:assert/strict'
import { chmodSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { say } from '../scenarios/kubectl.ts'
import { bootLab, labDir } from './boot.ts'
import type { Controlled } from './control.ts'
import { wayIn } from './enter.ts'

/** Pods whose networks are carried by plugins that misbehave, on a machine where a good pod runs. */

const way = wayIn()
const skip = way.how === 'none' ? way.why : false
const name = `foreign-${process.pid}`
const root = join(labDir(name), 'nodes/n1')

/** What each does when it is executed; `$CNI_COMMAND` says for what. */
const plugins: Record<string, string> = {
  garbage: 'echo "this is not JSON"',
  silent: ':',
  signalled: 'kill -SEGV $$',
  hanging: 'exec sleep 600',
  failing: 'echo \'{"cniVersion": "1.0.0", "code": 100, "msg": "out of luck", "details": "again"}\'; exit 1',
}

const definition = (type: string) => `---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: { name: ${type} }
spec: { config: '{"cniVersion": "1.0.0", "type": "${type}"}' }
`
const pod = (name: string, networks: string) => `---
apiVersion: v1
kind: Pod
metadata: { name: ${name}, annotations: { k8s.v1.cni.cncf.io/networks: "${networks}" } }
spec: { nodeSelector: { kubernetes.io/hostname: n1 }, containers: [{ name: main, image: busybox }] }
`
const blue = `---
apiVersion: polynet.dev/v1alpha1
kind: Network
metadata: { name: blue }
spec: { subnets: [{ cidr: 10.1.0.0/16 }] }
`

let lab: Controlled

before(async () => {
  if (way.how === 'none') return
  process.env.POLYNET_PLUGIN_TIMEOUT = '2'
  lab = (await bootLab(way, { name, wiring: { nodes: ['n1'], nics: [] } })).place
  for (const [type, script] of Object.entries(plugins)) {
    const file = join(root, 'opt/cni/bin', type)
    writeFileSync(file, `#!/bin/sh\ncat > /dev/null\n[ "$CNI_COMMAND" = ADD ] || exit 0\n${script}\n`)
    chmodSync(file, 0o755)
  }
  await say(
    lab,
    'apply -f -',
    [blue, ...Object.keys(plugins).map(definition), pod('stays', 'blue@net1')].join(''),
  )
  await say(lab, 'wait pod stays --for=condition=Ready')
})
after(() => lab?.close())

const want: [string, RegExp][] = [
  ['garbage', /PluginFailed .*garbage.*/],
  ['silent', /PluginFailed .*silent.*/],
  ['signalled', /PluginFailed .*signalled.*SIGSEGV/],
  ['hanging', /PluginFailed .*hanging.*did not end within 2000 ms and was killed/],
  ['failing', /PluginFailed .*out of luck/],
]
for (const [type, told] of want)
  test(`a pod behind a plugin that is ${type} is told, and leaves nothing`, {
    skip,
    timeout: 60_000,
  }, async () => {
    const before = await lab.leftovers('n1')
    await say(lab, 'apply -f -', pod(`bad-${type}`, `blue@net1,${type}@net2,blue@net3`))
    let text = ''
    for (let i = 0; i < 50 && !text.includes('PluginFailed'); i++) {
      await new Promise((resolve) => setTimeout(resolve, 200))
      text = await say(lab, `describe pod bad-${type}`)
    }
    assert.match(text, told)
    await say(lab, `delete pod bad-${type}`)
    assert.deepEqual(await lab.leftovers('n1'), before)
  })

test('a conf that comes half-written or broken changes no pod', { skip, timeout: 60_000 }, async () => {
  const before = await lab.leftovers('n1')
  for (const [file, text] of [
    ['01-half.conflist', '{"cniVersion": "1.0.0", "name": "half", "plugi'],
    ['02-none.conf', '{"cniVersion": "1.0.0"}'],
    ['03-empty.json', ''],
  ] as const)
    writeFileSync(join(root, 'etc/cni/net.d', file), text)
  await say(lab, 'apply -f -', pod('comes', 'blue@net1'))
  await say(lab, 'wait pod comes --for=condition=Ready')
  await say(lab, 'delete pod comes')
  assert.deepEqual(await lab.leftovers('n1'), before)
  for (const file of ['01-half.conflist', '02-none.conf', '03-empty.json'])
    rmSync(join(root, 'etc/cni/net.d', file))
})

test('Multus beside Polynet: its conf comes first by name, and pods have their networks once', {
  skip,
}, async () => {
  const confs = () =>
    readdirSync(join(root, 'etc/cni/net.d'))
      .filter((file) => file.includes('polynet'))
      .join()
  const until = async (want: string) => {
    for (const late = Date.now() + 60_000; confs() !== want && Date.now() < late; )
      await new Promise((resolve) => setTimeout(resolve, 50))
    assert.equal(confs(), want)
  }
  const multus = join(root, 'etc/cni/net.d/00-multus.conf')
  // It would execute ours for the default network, and read the same annotation itself.
  const delegate = { cniVersion: '1.0.0', name: 'polynet', plugins: [{ type: 'polynet-cni' }] }
  writeFileSync(
    multus,
    JSON.stringify({
      cniVersion: '0.3.1',
      name: 'multus-cni-network',
      type: 'multus',
      delegates: [delegate],
    }),
  )
  await until('0-polynet.conflist')
  await say(lab, 'apply -f -', pod('beside', 'blue@net1'))
  await say(lab, 'wait pod beside --for=condition=Ready')
  const { output } = await lab.exec('default/beside', ['ip', '-brief', 'link'])
  assert.deepEqual(output.match(/^[^\s@]+/gm)?.sort(), ['eth0', 'lo', 'net1'])
  assert.match(
    await say(lab, 'get events --field-selector reason=CNIConfBefore'),
    /node\/n1 .*00-multus\.conf comes before/,
  )
  await say(lab, 'delete pod beside')
  rmSync(multus)
  await until('00-polynet.conflist')
})
