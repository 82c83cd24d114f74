import { createSign, generateKeyPairSync, randomBytes } from 'node:crypto'
import { bitsOf, parseAddress } from './ip.ts'

/** A key and its certificate, PEM. */
export interface Identity {
  key: string
  certificate: string
}

/** What a certificate says of its owner, and how long. */
export interface Subject {
  commonName: string
  organization?: string
  /** Names and addresses of a server. */
  names?: readonly string[]
  from: Date
  until: Date
}

/**
 * A new key and a certificate that vouches for itself: whoever is given it
 * trusts its holder and, because its key signs nothing else, nobody beside.
 * RFC 5280 in DER, as far as one certificate needs it.
 */
export function selfSigned({ commonName, organization, names = [], from, until }: Subject): Identity {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const algorithm = sequence(oid([1, 2, 840, 10045, 4, 3, 2])) // ecdsa-with-SHA256
  const name = sequence(...(organization ? [attribute(10, organization)] : []), attribute(3, commonName))
  const extensions = [basicConstraints(), ...(names.length > 0 ? [alternativeNames(names)] : [])]
  const body = sequence(
    der(0xa0, integer(Buffer.from([2]))), // version 3
    integer(Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    algorithm,
    name,
    sequence(time(from), time(until)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...extensions)),
  )
  const signature = createSign('sha256').update(body).sign(privateKey)
  const certificate = sequence(body, algorithm, der(0x03, Buffer.from([0]), signature))
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificate: pem(certificate),
  }
}

/** Of the X.520 kind `type`: 3 is a common name, 10 an organization. */
const attribute = (type: number, text: string): Buffer =>
  set(sequence(oid([2, 5, 4, type]), der(0x0c, Buffer.from(text))))

/** It may sign itself, and that is all that it is asked to. */
const basicConstraints = (): Buffer =>
  sequence(
    oid([2, 5, 29, 19]),
    der(0x01, Buffer.from([0xff])),
    octets(sequence(der(0x01, Buffer.from([0xff])))),
  )

const alternativeNames = (names: readonly string[]): Buffer =>
  sequence(oid([2, 5, 29, 17]), octets(sequence(...names.map(alternativeName))))

function alternativeName(name: string): Buffer {
  const address = parseAddress(name)
  if (!address) return der(0x82, Buffer.from(name))
  const digits = bitsOf(address.family) / 4
  return der(0x87, Buffer.from(address.value.toString(16).padStart(digits, '0'), 'hex'))
}

/** A tag, the length of what follows, and what follows. */
function der(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  const length =
    content.length < 128
      ? [content.length]
      : content.length < 256
        ? [0x81, content.length]
        : [0x82, content.length >> 8, content.length & 255]
  return Buffer.concat([Buffer.from([tag, ...length]), content])
}

const sequence = (...parts: Buffer[]): Buffer => der(0x30, ...parts)
const set = (...parts: Buffer[]): Buffer => der(0x31, ...parts)
const octets = (content: Buffer): Buffer => der(0x04, content)
/** Positive: `bytes` begins with neither a zero nor a set sign bit. */
const integer = (bytes: Buffer): Buffer => der(0x02, bytes)

function oid([first = 0, second = 0, ...rest]: number[]): Buffer {
  const bytes = [first * 40 + second]
  for (const part of rest) {
    const sevens = [part & 127]
    for (let left = part >> 7; left > 0; left >>= 7) sevens.unshift((left & 127) | 128)
    bytes.push(...sevens)
  }
  return der(0x06, Buffer.from(bytes))
}

/** UTCTime with two digits of the year until 2049, GeneralizedTime with four from 2050 (RFC 5280 section 4.1.2.5). */
function time(date: Date): Buffer {
  const text = `${date.toISOString().replace(/[-:T]|\..*/g, '')}Z`
  return date.getUTCFullYear() < 2050 ? der(0x17, Buffer.from(text.slice(2))) : der(0x18, Buffer.from(text))
}

const pem = (bytes: Buffer): string =>
  `-----BEGIN CERTIFICATE-----\n${bytes.toString('base64').replace(/.{64}/g, '$&\n').trimEnd()}\n-----END CERTIFICATE-----\n`
