import assert from 'node:assert/strict'
import { test } from 'node:test'
import { frameLimits, frameOf, parseReply, parseRequest, replyOf } from './frame.ts'

const env = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'c0ffee',
  CNI_NETNS: '/run/netns/web',
  CNI_IFNAME: 'eth0',
  CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0',
  CNI_PATH: '/opt/cni/bin:/usr/lib/cni',
  HOME: '/root',
}
const conf = { cniVersion: '1.0.0', name: 'pods', type: 'polynet-cni' }

const parse = (changes: object = {}, config: unknown = conf, program = 'polynet-cni') =>
  parseRequest(
    frameOf(
      program,
      { ...env, ...changes },
      Buffer.from(typeof config === 'string' ? config : JSON.stringify(config)),
    ),
  )

test('a frame becomes the request that the runtime made', () => {
  assert.deepEqual(parse(), {
    ok: true,
    request: {
      program: 'polynet-cni',
      command: 'ADD',
      containerID: 'c0ffee',
      netns: '/run/netns/web',
      ifName: 'eth0',
      args: { IgnoreUnknown: '1', K8S_POD_NAMESPACE: 'shop', K8S_POD_NAME: 'web-0' },
      path: ['/opt/cni/bin', '/usr/lib/cni'],
      config: conf,
    },
  })
})

const taken: [string, object, unknown, object][] = [
  ['a DEL after the namespace is gone', { CNI_COMMAND: 'DEL', CNI_NETNS: '' }, conf, { netns: '' }],
  [
    'a GC, which is about no pod',
    { CNI_COMMAND: 'GC', CNI_CONTAINERID: '', CNI_NETNS: '', CNI_IFNAME: '' },
    conf,
    { ifName: '' },
  ],
  [
    'a VERSION, which has only a version',
    { CNI_COMMAND: 'VERSION' },
    { cniVersion: '0.4.0' },
    { command: 'VERSION' },
  ],
  ['no CNI_ARGS', { CNI_ARGS: undefined }, conf, { args: {} }],
  ['an argument with "=" in its value', { CNI_ARGS: 'A=b=c;;' }, conf, { args: { A: 'b=c' } }],
  [
    'an argument of a name that objects have',
    { CNI_ARGS: '__proto__=x' },
    conf,
    { args: Object.fromEntries([['__proto__', 'x']]) },
  ],
]
for (const [what, changes, config, want] of taken)
  test(`takes ${what}`, () => {
    const parsed = parse(changes, config)
    assert(parsed.ok, JSON.stringify(parsed))
    const got = Object.keys(want).map((key) => [key, parsed.request[key as 'netns']])
    assert.deepEqual(Object.fromEntries(got), want)
  })

const refused: [number, string, object, unknown, string?][] = [
  [
    4,
    'CNI_COMMAND is "ERASE": it must be one of ADD, DEL, CHECK, GC, STATUS, VERSION',
    { CNI_COMMAND: 'ERASE' },
    conf,
  ],
  [4, 'CNI_CONTAINERID, CNI_NETNS not set: ADD needs it', { CNI_CONTAINERID: '', CNI_NETNS: '' }, conf],
  [4, 'CNI_CONTAINERID is "../x": it is no container ID', { CNI_CONTAINERID: '../x' }, conf],
  [
    4,
    'CNI_IFNAME is "eth0/..": it must be 1 to 15 characters without "/", ":" and spaces',
    { CNI_IFNAME: 'eth0/..' },
    conf,
  ],
  [
    4,
    'CNI_IFNAME is "sixteen-letters!": it must be 1 to 15 characters without "/", ":" and spaces',
    { CNI_IFNAME: 'sixteen-letters!' },
    conf,
  ],
  [4, 'CNI_NETNS is "netns/web": it must be an absolute path', { CNI_NETNS: 'netns/web' }, conf],
  [
    4,
    'CNI_ARGS has "K8S_POD_NAME": it must be KEY=VALUE pairs between ";"',
    { CNI_ARGS: 'K8S_POD_NAME' },
    conf,
  ],
  [4, 'the shim was executed as "sh": install it as polynet-cni or polynet-ipam', {}, conf, 'sh'],
  [
    6,
    'this is not a polynet-cni/1 frame: install the shim and the agent of one release',
    {},
    conf,
    'x'.repeat(80),
  ],
  [6, 'the network configuration on stdin is not a JSON object: ', {}, '[]'],
  [
    1,
    'cniVersion "9.0.0" is not supported: Polynet speaks 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0',
    {},
    { ...conf, cniVersion: '9.0.0' },
  ],
  [
    1,
    'cniVersion "0.1.0" is not supported: Polynet speaks 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0',
    {},
    { ...conf, cniVersion: undefined },
  ],
  [7, 'name is "a/b": it must be letters, digits, "_", "." and "-"', {}, { ...conf, name: 'a/b' }],
  [7, 'type is missing: name the plugin that is executed', {}, { ...conf, type: undefined }],
  [
    7,
    'cni.dev/valid-attachments is not a list of {containerID, ifname}: ',
    {},
    { ...conf, 'cni.dev/valid-attachments': [null] },
  ],
  [
    7,
    `the network configuration is larger than ${frameLimits.config} bytes: make it smaller`,
    {},
    ' '.repeat(frameLimits.config + 1),
  ],
]
for (const [code, sentence, changes, config, program] of refused)
  test(`refuses with code ${code}: ${sentence}`, () => {
    const parsed = parse(changes, config, program)
    assert(!parsed.ok)
    const error = JSON.parse(parsed.answer.stdout)
    assert.deepEqual([parsed.answer.exit, error.code, `${error.msg}: ${error.details}`], [1, code, sentence])
  })

test('an error is in the version of the configuration, as far as it is known', () => {
  const version = (config: unknown) => {
    const parsed = parse({ CNI_IFNAME: '' }, config)
    return parsed.ok || JSON.parse(parsed.answer.stdout).cniVersion
  }
  assert.equal(version({ ...conf, cniVersion: '0.3.1' }), '0.3.1')
  assert.equal(version('{'), '1.0.0')
})

test('a frame cut anywhere in its head is refused, never misread', () => {
  const whole = Buffer.from(frameOf('polynet-cni', env, Buffer.from(JSON.stringify(conf))))
  for (let length = 0; length < whole.length; length++)
    assert.equal(parseRequest(whole.subarray(0, length)).ok, false, `cut to ${length} bytes`)
})

test('a reply is read back as it was written, and one cut short is no reply', () => {
  const whole = replyOf({ exit: 1, stdout: '{"code":7}' })
  assert.equal(whole.toString(), '1\n{"code":7}\n')
  assert.deepEqual(parseReply(whole), { exit: 1, stdout: '{"code":7}\n' })
  assert.deepEqual(parseReply(replyOf({ exit: 0, stdout: '' })), { exit: 0, stdout: '' })
  for (const length of [0, 1, 3, whole.length - 1])
    assert.equal(parseReply(whole.subarray(0, length)), undefined)
})
