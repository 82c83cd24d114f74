import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, type TestContext, test } from 'node:test'
import { type Handle, serveShim } from '../../agent/socket.ts'
import { startSpool } from '../../agent/spool.ts'
import { realClock } from '../../lib/clock.ts'
import { silentLog } from '../../lib/log.ts'
import { parseRequest } from '../frame.ts'
import type { CniRequest } from '../request.ts'
import { buildShim } from './build.ts'

const conf = { cniVersion: '1.1.0', name: 'pods', type: 'polynet-cni' }
const variables = {
  CNI_CONTAINERID: 'c0ffee',
  CNI_NETNS: '/run/netns/web',
  CNI_IFNAME: 'eth0',
  CNI_ARGS: 'K8S_POD_NAME=web-0',
  CNI_PATH: '/opt/cni/bin',
}

interface Ended {
  exit: number | null
  stdout: string
}

for (const kind of ['c', 'node'] as const)
  suite(`the shim (${kind})`, () => {
    let dir = ''
    let bin = ''
    let built = ''

    before(async () => {
      dir = await mkdtemp(join(tmpdir(), 'polynet-shim-'))
      bin = join(dir, "it's a bin")
      built = (await buildShim(bin, kind === 'c' ? undefined : [])).kind
    })
    after(() => rm(dir, { recursive: true }))

    const at = (name: string) => join(dir, name)
    const shim = (
      command: string,
      input: string = JSON.stringify(conf),
      {
        program = 'polynet-cni',
        socket = 'agent.sock',
        spool = 'spool',
        timeoutMs = 20_000,
        waitMs = '0',
        more = {},
      } = {},
    ): Promise<Ended> =>
      new Promise((resolve, reject) => {
        const env = {
          ...variables,
          CNI_COMMAND: command,
          POLYNET_SOCKET: at(socket),
          POLYNET_SPOOL: at(spool),
          POLYNET_TIMEOUT_MS: String(timeoutMs),
          POLYNET_WAIT_MS: waitMs,
          POLYNET_REMOVED: at('removed'),
          ...more,
        }
        const child = spawn(join(bin, program), { env, stdio: ['pipe', 'pipe', 'inherit'] })
        let stdout = ''
        child.stdout.on('data', (chunk) => {
          stdout += chunk
        })
        child.stdin.on('error', () => {}) // it need not read all of it
        child.stdin.end(input)
        child.on('error', reject)
        child.on('close', (exit) => resolve({ exit, stdout }))
      })
    const agent = async (t: TestContext, handle: Handle) => {
      const server = await serveShim(at('agent.sock'), handle, silentLog)
      t.after(() => server.close())
    }

    /** An agent that does with the connection what a broken one would. */
    const broken = async (t: TestContext, name: string, serve: (socket: Socket) => void) => {
      const server = createServer({ allowHalfOpen: true }, serve)
      await new Promise<void>((resolve) => server.listen(at(name), resolve))
      t.after(() => server.close())
    }
    const error = ({ exit, stdout }: Ended) => {
      const { cniVersion, code, msg } = JSON.parse(stdout)
      return `${exit}: ${cniVersion} ${code} ${msg}`
    }

    test('is what was asked for', (t) => {
      if (built !== kind) return t.skip('no C compiler on this machine')
      assert.equal(built, kind)
    })

    test('hands over all that the runtime said, and back what the agent answered', async (t) => {
      const seen: CniRequest[] = []
      await agent(t, async (request) => {
        seen.push(request)
        return { exit: seen.length - 1, stdout: `{"answer":${seen.length}}` }
      })
      assert.deepEqual(await shim('ADD'), { exit: 0, stdout: '{"answer":1}\n' })
      assert.deepEqual(await shim('DEL', undefined, { program: 'polynet-ipam' }), {
        exit: 1,
        stdout: '{"answer":2}\n',
      })
      const asked = {
        containerID: 'c0ffee',
        netns: '/run/netns/web',
        ifName: 'eth0',
        args: { K8S_POD_NAME: 'web-0' },
        path: ['/opt/cni/bin'],
        config: conf,
      }
      assert.deepEqual(seen, [
        { program: 'polynet-cni', command: 'ADD', ...asked },
        { program: 'polynet-ipam', command: 'DEL', ...asked },
      ])
    })

    test('carries a configuration and an answer of nearly a megabyte', async (t) => {
      await agent(t, async ({ config }) => ({ exit: 0, stdout: JSON.stringify(config) }))
      const large = { ...conf, padding: 'x'.repeat(1_000_000) }
      const { exit, stdout } = await shim('ADD', JSON.stringify(large))
      assert.equal(exit, 0)
      assert.deepEqual(JSON.parse(stdout), large)
    })

    test('sixteen at once get each their own answer', async (t) => {
      await agent(t, async ({ containerID }) => ({ exit: 0, stdout: containerID }))
      const ids = Array.from({ length: 16 }, (_, i) => `c${i}`)
      const ended = await Promise.all(
        ids.map((id) => shim('ADD', undefined, { more: { CNI_CONTAINERID: id } })),
      )
      assert.deepEqual(
        ended,
        ids.map((id) => ({ exit: 0, stdout: `${id}\n` })),
      )
    })

    test('refuses a configuration that is larger than a megabyte', async () => {
      const ended = await shim('ADD', ' '.repeat((1 << 20) + 1))
      assert.equal(error(ended), '1: 1.0.0 7 the network configuration on stdin is larger than 1 MiB')
    })

    test('says that nobody is to execute it by hand', async () => {
      assert.equal(error(await shim('')), '1: 1.0.0 4 CNI_COMMAND is not set')
    })

    const away = 'the polynet agent on this node does not answer'
    const alone: [string, string][] = [
      ['ADD', `1: 1.1.0 11 ${away}`],
      ['CHECK', `1: 1.1.0 11 ${away}`],
      ['STATUS', `1: 1.1.0 50 ${away}`],
    ]
    for (const [command, want] of alone)
      test(`while no agent is there, ${command} ends with ${want}`, async () => {
        const ended = await shim(command)
        assert.equal(error(ended), want)
        assert.match(
          JSON.parse(ended.stdout).details,
          /agent\.sock: .*; look at the polynet agent on this node$/,
        )
      })

    for (const command of ['ADD', 'CHECK', 'STATUS', 'DEL'])
      test(`while the agent is replaced by another, ${command} waits for that one`, async (t) => {
        const asked = shim(command, undefined, { waitMs: '' })
        await new Promise((resolve) => setTimeout(resolve, 400))
        await agent(t, async (request) => ({ exit: 0, stdout: request.command }))
        assert.deepEqual(await asked, { exit: 0, stdout: `${command}\n` })
      })

    const patience: [command: string, program: string, seconds: number][] = [
      ['ADD', 'polynet-cni', 5],
      ['DEL', 'polynet-cni', 1],
      ['GC', 'polynet-cni', 0],
      ['ADD', 'polynet-ipam', 0],
    ]
    for (const [command, program, seconds] of patience)
      test(`an agent that is away keeps a ${command} of ${program} waiting ${seconds} s`, async () => {
        const began = performance.now()
        await shim(command, undefined, { program, waitMs: '', spool: 'patience' })
        assert.equal(Math.floor((performance.now() - began) / 1000), seconds)
      })

    test('where Polynet was removed, nobody waits, and the sentence says so', async (t) => {
      await writeFile(at('removed'), '')
      t.after(() => rm(at('removed')))
      const began = performance.now()
      const said = "install it again, or replace its conf in the CNI directory by another plugin's"
      for (const [command, code] of [
        ['ADD', 11],
        ['STATUS', 50],
      ] as const) {
        const ended = await shim(command, undefined, { waitMs: '' })
        assert.equal(error(ended), `1: 1.1.0 ${code} polynet was removed from this node`)
        assert.equal(JSON.parse(ended.stdout).details, said)
      }
      assert.deepEqual(await shim('DEL', undefined, { waitMs: '', spool: 'removed-spool' }), {
        exit: 0,
        stdout: '',
      })
      assert.equal((await readdir(at('removed-spool'))).length, 1)
      assert.ok(performance.now() - began < 1000 * (kind === 'c' ? 1 : 3))
    })

    test('while no agent is there, GC succeeds without effect and VERSION is answered', async () => {
      assert.deepEqual(await shim('GC'), { exit: 0, stdout: '' })
      assert.deepEqual(await shim('VERSION', '{"cniVersion":"0.4.0"}'), {
        exit: 0,
        stdout: '{"cniVersion":"0.4.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}\n',
      })
    })

    test('while no agent is there, DELs wait in the spool, in order, until one works them off', async () => {
      const spool = at('var/spool')
      for (const id of ['one', 'two', 'three']) {
        const options = { spool: 'var/spool', more: { CNI_CONTAINERID: id, CNI_NETNS: '' } }
        assert.deepEqual(await shim('DEL', undefined, options), { exit: 0, stdout: '' })
      }
      const seen: string[] = []
      const handle = async ({ command, containerID }: CniRequest) => {
        seen.push(`${command} ${containerID}`)
        return containerID === 'two' && seen.length < 4
          ? { exit: 1, stdout: 'not yet' }
          : { exit: 0, stdout: '' }
      }
      const frames = (await readdir(spool))
        .sort()
        .map((name) => parseRequest(readFileSync(join(spool, name))))
      assert.deepEqual(
        frames.map((frame) => frame.ok && `${frame.request.command} ${frame.request.containerID}`),
        ['DEL one', 'DEL two', 'DEL three'],
      )
      const stop = startSpool({ dir: spool, ready: () => true, handle, clock: realClock, log: silentLog })
      while ((await readdir(spool)).length > 0) await realClock.sleep(10)
      stop()
      assert.deepEqual(seen.sort(), ['DEL one', 'DEL three', 'DEL two', 'DEL two'])
    })

    test('a DEL that cannot be kept fails, so that the runtime repeats it', async () => {
      await writeFile(at('a-file'), '')
      const ended = await shim('DEL', undefined, { spool: 'a-file' })
      const want = '1: 1.1.0 11 the polynet agent does not answer and the DEL cannot be kept for it'
      assert.equal(error(ended), want)
      assert.equal(await readFile(at('a-file'), 'utf8'), '')
    })

    test('an agent that dies in the middle of its answer is an agent that is away', async (t) => {
      await broken(t, 'dies.sock', (socket) => {
        socket.on('error', () => {})
        socket.resume().on('end', () => socket.end('0\n{"cniVersion":"1.'))
      })
      assert.equal(error(await shim('ADD', undefined, { socket: 'dies.sock' })), `1: 1.1.0 11 ${away}`)
      const kept = await shim('DEL', undefined, { socket: 'dies.sock', spool: 'dies-spool' })
      assert.deepEqual(kept, { exit: 0, stdout: '' })
      assert.equal((await readdir(at('dies-spool'))).length, 1)
    })

    test('an agent that hangs is given up on', async (t) => {
      await broken(t, 'hangs.sock', (socket) => {
        t.after(() => socket.destroy())
      })
      const options = { socket: 'hangs.sock', timeoutMs: 600 }
      assert.equal(error(await shim('ADD', undefined, options)), `1: 1.1.0 11 ${away}`)
    })

    test('an agent that answers before it has read everything is heard', async (t) => {
      // Our agent reads every request that a shim may send to its end before it answers.
      if (kind === 'node') return t.skip('a Node socket that cannot write is not read any more')
      await broken(t, 'hasty.sock', (socket) => {
        socket.on('error', () => {})
        socket.end('7\n{"code":6}\n', () => socket.destroy())
      })
      const input = JSON.stringify({ ...conf, padding: 'x'.repeat(900_000) })
      assert.deepEqual(await shim('ADD', input, { socket: 'hasty.sock' }), {
        exit: 7,
        stdout: '{"code":6}\n',
      })
    })

    const versions: [string, string][] = [
      ['{"a":{"cniVersion":"0.3.1"},"b":["cniVersion","0.3.0"],"cniVersion" : "0.4.0"}', '0.4.0'],
      ['{"name":"cniVersion","x":"\\"cniVersion\\":\\"9\\"","cniVersion":\n"0.3.1"}', '0.3.1'],
      ['{"cniVersion":"1.0.0\\",\\"code\\":0"}', '1.0.0'],
      ['{"cniVersion":"1234567890.1234567"}', '1.0.0'],
      ['{"cniVersion":7}', '1.0.0'],
      ['{"cniVersion":"0.3', '1.0.0'],
      ['"\\', '1.0.0'],
      ['', '1.0.0'],
    ]
    test('an error is in the version of the configuration, wherever that stands in it', async () => {
      const got = await Promise.all(versions.map(([input]) => shim('ADD', input)))
      assert.deepEqual(
        got.map(({ stdout }, i) => [versions[i]![0], JSON.parse(stdout).cniVersion]),
        versions,
      )
    })
  })
