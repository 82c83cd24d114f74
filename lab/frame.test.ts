import assert from 'node:assert/strict'
import { test } from 'node:test'
import { udpFrame } from './frame.ts'

const frame = (source: string, destination: string) =>
  udpFrame({
    etherSource: '0a:58:0a:01:00:02',
    etherDestination: '0a:58:a9:fe:01:01',
    source,
    destination,
    port: 20778,
    payload: Buffer.from('hello'),
  }).toString('hex')

test('an IPv4 packet has its headers and checksums', () => {
  assert.equal(
    frame('10.1.0.2', '10.1.0.3'),
    '0a58a9fe0101' +
      '0a580a010002' +
      '0800' +
      '45000021' +
      '00000000' +
      '4011' +
      '66c6' +
      '0a010002' +
      '0a010003' +
      '512a512a000d' +
      '05a7' +
      '68656c6c6f',
  )
})

test('so has an IPv6 packet', () => {
  assert.equal(
    frame('fd00:10:1::2', 'fd00:10:1::3'),
    '0a58a9fe0101' +
      '0a580a010002' +
      '86dd' +
      '60000000' +
      '000d' +
      '11' +
      '40' +
      'fd000010000100000000000000000002' +
      'fd000010000100000000000000000003' +
      '512a512a000d' +
      '1f85' +
      '68656c6c6f',
  )
})
