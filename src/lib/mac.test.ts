import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseAddress } from './ip.ts'
import { gatewayMac, macBytes, macOf, parseMac, tunnelMac } from './mac.ts'

const made: [address: string, port: string, tunnel: string][] = [
  ['10.1.0.7', '0a:58:0a:01:00:07', '0a:54:0a:01:00:07'],
  ['255.255.255.255', '0a:58:ff:ff:ff:ff', '0a:54:ff:ff:ff:ff'],
  ['0.0.0.0', '0a:58:00:00:00:00', '0a:54:00:00:00:00'],
  ['fd00:10:1::7', '0a:56:21:42:25:79', '0a:52:83:d6:0b:13'],
]

for (const [text, port, tunnel] of made)
  test(`${text} is at ${port}, and its tunnel at ${tunnel}`, () => {
    const address = parseAddress(text)!
    assert.deepEqual([macOf(address), tunnelMac(address)], [port, tunnel])
  })

test('what is made is locally administered unicast', () => {
  for (const [, ...macs] of [...made, ['', gatewayMac]])
    for (const mac of macs) assert.equal(macBytes(mac)[0]! & 3, 2, mac)
})

const inputs: [input: string, mac: string | undefined][] = [
  ['0a:58:0a:01:00:07', '0a:58:0a:01:00:07'],
  ['0A-58-0A-01-00-07', '0a:58:0a:01:00:07'],
  // a group address is nobody's own
  ['01:00:5e:00:00:01', undefined],
  ['ff:ff:ff:ff:ff:ff', undefined],
  ['00:00:00:00:00:00', undefined],
  ['0a:58:0a:01:00', undefined],
  ['0a:58:0a:01:00:07:08', undefined],
  ['0a58.0a01.0007', undefined],
  ['0a580a010007', undefined],
  ['0a:58:0a:01:00:0g', undefined],
  [' 0a:58:0a:01:00:07', undefined],
  ['0a:58:0a:01:00:07\n', undefined],
]

for (const [input, want] of inputs)
  test(`${JSON.stringify(input)} ${want ? `is the MAC ${want}` : 'is no MAC of an interface'}`, () =>
    assert.equal(parseMac(input), want))

test('a MAC is six bytes, in the order it is written', () =>
  assert.deepEqual([...macBytes('0a:58:0a:01:00:07')], [0x0a, 0x58, 0x0a, 1, 0, 7]))
