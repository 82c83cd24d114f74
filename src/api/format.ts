import { inAscii } from '../lib/ascii.ts'
import {
  bitsOf,
  formatAddress,
  formatPrefix,
  hostBits,
  parseAddress,
  parsePrefix,
  withoutLength,
} from '../lib/ip.ts'
import { parseMac } from '../lib/mac.ts'

/**
 * What a text field can hold. The API server checks `pattern`, which is
 * coarse and answers with `expected`; `read` is exact and gives the one
 * spelling under which equal values are equal strings.
 */
export interface Format {
  pattern: string
  maxLength: number
  /** What to write, with an example. */
  expected: string
  read(text: string): { text: string } | { problem: string }
}

/** User's text as it may stand in a message: short, on one line, quoted where it is not plain. */
export function shown(value: unknown): string {
  if (typeof value === 'string' && /^[\w.:/@*?-]{1,64}$/.test(value)) return value
  const text = inAscii(JSON.stringify(value) ?? String(value))
  return text.length > 64 ? `${text.slice(0, 63)}…` : text
}

const expectedAddress = 'an address such as 10.1.0.7 or fd00:10:1::7'
const expectedPrefix = 'a prefix such as 10.1.0.0/16 or fd00:10:1::/64'
const expectedInterfaceAddress = 'an address with its prefix length such as 192.168.10.11/24'
const expectedMac = 'the MAC of one interface such as 0a:58:0a:01:00:07'

const v4 = '[0-9]{1,3}(\\.[0-9]{1,3}){3}'
const v6 = '[0-9a-fA-F:.]*:[0-9a-fA-F:.]*'
const label = '[a-z0-9]([-a-z0-9]*[a-z0-9])?'

function matching(pattern: string, maxLength: number, expected: string): Format {
  const whole = new RegExp(pattern)
  return {
    pattern,
    maxLength,
    expected,
    read: (text) =>
      text.length <= maxLength && whole.test(text)
        ? { text }
        : { problem: `${shown(text)} is not ${expected}` },
  }
}

function readAddress(text: string): { text: string } | { problem: string } {
  const address = parseAddress(text)
  if (address) return { text: formatAddress(address) }
  if (parsePrefix(text)) return { problem: `${text} is a prefix, not an address; leave out the length` }
  return { problem: `${shown(text)} is not ${expectedAddress}` }
}

function readPrefix(text: string): { text: string } | { problem: string } {
  const prefix = parsePrefix(text)
  if (prefix && hostBits(text))
    return {
      problem: `${shown(text)} has host bits set; write ${formatPrefix(prefix)} if that is the prefix meant`,
    }
  if (prefix) return { text: formatPrefix(prefix) }
  const address = parseAddress(withoutLength(text))
  if (!address) return { problem: `${shown(text)} is not ${expectedPrefix}` }
  const bits = bitsOf(address.family)
  return {
    problem: text.includes('/')
      ? `${shown(text)} is not a prefix (0–${bits}); correct its length`
      : `${shown(text)} is an address, not a prefix; add a length (0–${bits})`,
  }
}

export const formats = {
  address: {
    pattern: `^(${v4}|${v6})$`,
    maxLength: 45,
    expected: expectedAddress,
    read: readAddress,
  },
  prefix: {
    pattern: `^(${v4}/(3[0-2]|[12]?[0-9])|${v6}/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$`,
    maxLength: 49,
    expected: expectedPrefix,
    read: readPrefix,
  },
  addressOrPrefix: {
    pattern: `^(${v4}|${v6})(/[0-9]{1,3})?$`,
    maxLength: 49,
    expected: 'an address or a prefix such as 10.1.0.7 or 10.1.0.0/24',
    read: (text) => (text.includes('/') ? readPrefix(text) : readAddress(text)),
  },
  /** An address with the prefix length of its subnet. */
  interfaceAddress: {
    pattern: `^(${v4}|${v6})/[0-9]{1,3}$`,
    maxLength: 49,
    expected: expectedInterfaceAddress,
    read: (text) => {
      const prefix = parsePrefix(text)
      const address = parseAddress(withoutLength(text))
      return prefix && address
        ? { text: `${formatAddress(address)}/${prefix.length}` }
        : { problem: `${shown(text)} is not ${expectedInterfaceAddress}` }
    },
  },
  mac: {
    pattern: '^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$',
    maxLength: 17,
    expected: expectedMac,
    read: (text) => {
      const mac = parseMac(text)
      return mac ? { text: mac } : { problem: `${shown(text)} is not ${expectedMac}` }
    },
  },
  /** RFC 1123, as Kubernetes has it. */
  label: matching(
    `^${label}$`,
    63,
    'a name; write at most 63 of a-z 0-9 -, beginning and ending with a-z 0-9',
  ),
  subdomain: matching(
    `^${label}(\\.${label})*$`,
    253,
    'a name; write at most 253 of a-z 0-9 - . such as n1.example.org',
  ),
  /** As the kernel takes it, with `*` and `?`; no longer than IFNAMSIZ - 1. */
  interfaceGlob: matching(
    '^[A-Za-z0-9_.*?-]+$',
    15,
    'an interface name; write at most 15 of A-Z a-z 0-9 _ . - and the wildcards * and ?, such as eth1 or ens*',
  ),
  interface: matching('^[^/:\\s]+$', 15, 'an interface name such as eth1, at most 15 bytes'),
  pciAddress: matching(
    '^[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]$',
    12,
    'a PCI address such as 0000:3b:00.1',
  ),
  driver: matching('^[A-Za-z0-9_-]+$', 64, 'a driver such as ixgbe; `ethtool -i` names it'),
  /** Names a file in the node's plugin directory, so: nothing that leaves it. */
  plugin: matching(
    '^[A-Za-z0-9][A-Za-z0-9._-]*$',
    63,
    'a CNI plugin; write its type or its name on the nodes, such as flannel',
  ),
  word: matching('^[!-~]+$', 253, 'a word without spaces'),
} satisfies Record<string, Format>
