import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { AttachmentRecord } from '../journal/record.ts'
import { giveBack } from './clean.ts'

test('other plugins are asked for all that they made, the host’s ports among it, the last first', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-clean-'))
  try {
    const [done, script] = [join(dir, 'done'), (name: string) => join(dir, name)]
    for (const name of ['good', 'portmap'])
      writeFileSync(
        script(name),
        `#!/bin/sh\n[ "$CNI_COMMAND" = VERSION ] && exit 1\necho "$CNI_COMMAND ${name} $CNI_IFNAME ns:$CNI_NETNS" >>${done}\n`,
        { mode: 0o755 },
      )
    const by = (type: string) => ({
      conf: { name: type, cniVersion: '1.0.0', plugins: [{ type }], source: type },
      args: {},
      capabilityArgs: {},
    })
    const network = { namespace: 'polynet-system', name: 'default', uid: 'u' }
    const attachments: AttachmentRecord[] = [
      { kind: 'polynet', interface: 'eth0', network, default: true, ports: by('portmap') },
      { kind: 'polynet', interface: 'eth1', network, default: false },
      { kind: 'plugin', name: 'good', interface: 'net1', default: false, ...by('good') },
    ]
    const pod = { namespace: 'blue', name: 'web', uid: 'p' }
    const record = { containerID: 'c', pod, netns: join(dir, 'gone'), state: 'added' as const, attachments }
    assert.deepEqual(await giveBack([record], { root: '/', confDir: dir, binDir: dir, force: true }), {
      lines: ['gave back net1 of pod blue/web', 'gave back eth0 of pod blue/web'],
      failed: 0,
    })
    assert.equal(readFileSync(done, 'utf8'), 'DEL good net1 ns:\nDEL portmap eth0 ns:\n')
  } finally {
    rmSync(dir, { recursive: true })
  }
})
