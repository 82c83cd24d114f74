import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLog } from '../lib/log.ts'
import { devicesIn, kubeletDevices } from './devices.ts'

const entry = (PodUID: string, ContainerName: string, ResourceName: string, DeviceIDs: unknown) => ({
  PodUID,
  ContainerName,
  ResourceName,
  DeviceIDs,
  AllocResp: 'CgA=',
})
/** As a kubelet writes them. */
const notes = (...PodDeviceEntries: unknown[]) =>
  JSON.stringify({
    Data: { PodDeviceEntries, RegisteredDevices: { 'intel.com/sriov': ['0000:81:00.1'] } },
    Checksum: 1,
  })

const cases: [title: string, text: string, want: Record<string, string[]> | undefined][] = [
  [
    'those of its containers, and of no other pod',
    notes(
      entry('uid-a', 'main', 'intel.com/sriov', { '0': ['0000:81:00.1'], '1': ['0000:c1:00.1'] }),
      entry('uid-a', 'side', 'intel.com/sriov', { '-1': ['0000:81:00.2'] }),
      entry('uid-a', 'main', 'example.com/tap', { '-1': ['tap7'] }),
      entry('uid-b', 'main', 'intel.com/sriov', { '0': ['0000:81:00.9'] }),
    ),
    { 'intel.com/sriov': ['0000:81:00.1', '0000:81:00.2', '0000:c1:00.1'], 'example.com/tap': ['tap7'] },
  ],
  [
    'those that an old kubelet wrote in one list',
    notes(entry('uid-a', 'main', 'r', ['d1', 'd2'])),
    { r: ['d1', 'd2'] },
  ],
  ['none where it has none', notes(entry('uid-b', 'main', 'r', { '0': ['d'] })), {}],
  ['none where nobody has any', '{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}},"Checksum":1}', {}],
  ['nothing where the notes say something else', '{"v2": {}}', undefined],
  ['nothing where the notes are half written', '{"Data":', undefined],
  ['nothing where they are null', 'null', undefined],
  [
    'what is a device among what is none',
    notes(null, entry('uid-a', 'main', 'r', { '0': [7, 'd', null] }), entry('uid-a', 'x', 'r', null)),
    { r: ['d'] },
  ],
]
test('notes that nobody wrote are no devices, and others than expected are told of', () => {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-devices-'))
  const told: string[] = []
  const log = { ...silentLog, warn: (message: string) => void told.push(message) }
  const path = join(dir, 'kubelet_internal_checkpoint')
  const devices = () => [...kubeletDevices(path, log)('uid-a').values()].flat().join()
  try {
    assert.deepEqual([devices(), told], ['', []])
    writeFileSync(path, '{}')
    assert.deepEqual([devices(), told], ['', ['the kubelet notes devices in a way that is not known here']])
    writeFileSync(path, notes(entry('uid-a', 'main', 'r', { '0': ['d'] })))
    assert.deepEqual([devices(), told.length], ['d', 1])
  } finally {
    rmSync(dir, { recursive: true })
  }
})

for (const [title, text, want] of cases)
  test(`a pod was given ${title}`, () => {
    const devices = devicesIn(text, 'uid-a')
    assert.deepEqual(devices && Object.fromEntries(devices), want)
  })
