import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { silentLog } from '../lib/log.ts'
import { foreignPlugins } from './exec.ts'

const installed = ['/usr/lib/cni', '/opt/cni/bin'].find((dir) => existsSync(join(dir, 'host-local')))
const skip =
  process.getuid?.() !== 0 ? 'not root' : !installed ? 'no reference plugins on this machine' : false

test("an agent in a container executes the host's plugins on the host's files", { skip }, async (t) => {
  const host = mkdtempSync(join(tmpdir(), 'polynet-host-'))
  t.after(() => rmSync(host, { recursive: true }))
  const put = (from: string, to: string) => {
    mkdirSync(dirname(join(host, to)), { recursive: true })
    copyFileSync(from, join(host, to))
  }
  const plugin = join(installed as string, 'host-local')
  put(plugin, '/home/cni/bin/host-local')
  // A static one has none.
  const { libraries } = (() => {
    try {
      return {
        libraries: execFileSync('ldd', [plugin], { encoding: 'utf8', stdio: 'pipe' }).match(/\/\S+/g) ?? [],
      }
    } catch {
      return { libraries: [] }
    }
  })()
  for (const path of libraries) put(path, path)
  mkdirSync(join(host, 'opt/cni'), { recursive: true })
  symlinkSync('/home/cni/bin', join(host, 'opt/cni/bin'))
  mkdirSync(join(host, 'etc/cni/net.d'), { recursive: true })
  const ipam = { type: 'host-local', ranges: [[{ subnet: '10.244.0.0/16' }]] }
  const list = { cniVersion: '1.0.0', name: 'pods', plugins: [{ type: 'host-local', ipam }] }
  writeFileSync(join(host, 'etc/cni/net.d/10-pods.conflist'), JSON.stringify(list))

  const plugins = foreignPlugins({
    confDir: '/etc/cni/net.d',
    binDirs: ['/opt/cni/bin'],
    hostRoot: host,
    log: silentLog,
  })
  const [conf] = await plugins.confs()
  assert.ok(conf)
  assert.equal(conf.source, '/etc/cni/net.d/10-pods.conflist')
  const invocation = {
    conf,
    containerID: 'c0ffee',
    netns: '/run/netns/web',
    ifName: 'eth0',
    args: {},
    capabilityArgs: {},
  }
  const leases = () =>
    readdirSync(join(host, 'var/lib/cni/networks/pods')).filter((name) => /^10\./.test(name))
  const { ips } = await plugins.add(invocation)
  assert.deepEqual(ips, [{ address: '10.244.0.2/16', gateway: '10.244.0.1', interface: 0 }])
  assert.deepEqual(leases(), ['10.244.0.2'])
  await plugins.del(invocation)
  assert.deepEqual(leases(), [])
})
