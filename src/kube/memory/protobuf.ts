/**
 * Kubernetes' protobuf, as far as kubectl sends it: `create namespace`,
 * `create configmap` and `drain` write nothing else. Field numbers are those of
 * k8s.io/api/core/v1/generated.proto and of apimachinery's meta/v1.
 */
type Field =
  | { name: string; as: 'text' | 'texts' | 'number' | 'flag' }
  | { name: string; as: 'message'; of: Message }
  | { name: string; as: 'map'; bytes?: true }
type Message = Record<number, Field>

const metadata: Message = {
  1: { name: 'name', as: 'text' },
  2: { name: 'generateName', as: 'text' },
  3: { name: 'namespace', as: 'text' },
  5: { name: 'uid', as: 'text' },
  6: { name: 'resourceVersion', as: 'text' },
  11: { name: 'labels', as: 'map' },
  12: { name: 'annotations', as: 'map' },
  14: { name: 'finalizers', as: 'texts' },
}

const kinds: Record<string, Message> = {
  Namespace: { 1: { name: 'metadata', as: 'message', of: metadata } },
  ConfigMap: {
    1: { name: 'metadata', as: 'message', of: metadata },
    2: { name: 'data', as: 'map' },
    3: { name: 'binaryData', as: 'map', bytes: true },
    4: { name: 'immutable', as: 'flag' },
  },
  DeleteOptions: {
    1: { name: 'gracePeriodSeconds', as: 'number' },
    2: {
      name: 'preconditions',
      as: 'message',
      of: { 1: { name: 'uid', as: 'text' }, 2: { name: 'resourceVersion', as: 'text' } },
    },
    4: { name: 'propagationPolicy', as: 'text' },
    5: { name: 'dryRun', as: 'texts' },
  },
}

/** The object that the bytes hold, or undefined for a kind that is not known here. */
export function fromProtobuf(body: Uint8Array): Record<string, unknown> | undefined {
  if (Buffer.from(body.subarray(0, 4)).toString('latin1') !== 'k8s\0') return undefined
  // runtime.Unknown: 1 is the type, 2 the object.
  const envelope = new Map(fieldsOf(body.subarray(4)))
  const type = new Map(fieldsOf(bytesOf(envelope.get(1))))
  const [apiVersion, kind] = [textOf(type.get(1)), textOf(type.get(2))]
  const message = kinds[kind]
  if (apiVersion !== 'v1' || !message) return undefined
  return { apiVersion, kind, ...read(message, bytesOf(envelope.get(2))) }
}

function read(message: Message, bytes: Uint8Array): Record<string, unknown> {
  const value: Record<string, unknown> = {}
  for (const [number, raw] of fieldsOf(bytes)) {
    const field = message[number]
    if (!field) continue
    switch (field.as) {
      case 'text':
        // Go writes every string, also those that were never set.
        if (textOf(raw) !== '') value[field.name] = textOf(raw)
        break
      case 'texts':
        value[field.name] = [...((value[field.name] as string[] | undefined) ?? []), textOf(raw)]
        break
      case 'number':
        value[field.name] = raw
        break
      case 'flag':
        value[field.name] = raw === 1
        break
      case 'message':
        value[field.name] = read(field.of, bytesOf(raw))
        break
      case 'map': {
        const entry = new Map(fieldsOf(bytesOf(raw)))
        const content = field.bytes
          ? Buffer.from(bytesOf(entry.get(2))).toString('base64')
          : textOf(entry.get(2))
        value[field.name] = { ...(value[field.name] as object | undefined), [textOf(entry.get(1))]: content }
      }
    }
  }
  return value
}

type Raw = number | Uint8Array

const bytesOf = (raw: Raw | undefined): Uint8Array => (raw instanceof Uint8Array ? raw : new Uint8Array())
const textOf = (raw: Raw | undefined): string => Buffer.from(bytesOf(raw)).toString()

/** Each field's number and content, as the wire has them; throws where the bytes break off. */
function* fieldsOf(bytes: Uint8Array): Iterable<[number, Raw]> {
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let shift = 0; shift < 64; shift += 7) {
      const byte = bytes[at++]
      if (byte === undefined) throw new Error('the protobuf breaks off')
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    throw new Error('the protobuf has a number that is too long')
  }
  const take = (length: number): Uint8Array => {
    if (at + length > bytes.length) throw new Error('the protobuf breaks off')
    at += length
    return bytes.subarray(at - length, at)
  }
  while (at < bytes.length) {
    const tag = varint()
    const number = Math.floor(tag / 8)
    const wire = tag % 8
    if (wire === 0) yield [number, varint()]
    else if (wire === 2) yield [number, take(varint())]
    else if (wire === 1 || wire === 5) take(wire === 1 ? 8 : 4)
    else throw new Error('the protobuf has a field of an unknown sort')
  }
}
