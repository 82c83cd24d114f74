/**
 * nftables rules as plain values. One value has several readers: `nftText`
 * (for people and tests), the netlink encoder (for the kernel) and `trace`
 * (which walks a packet through it). Names and text are nft's own, so nft(8)
 * is the manual. Rules are fixed; pods, policies and services are elements of
 * the sets and maps that rules look things up in. Nothing here is ever built
 * by gluing a user's text together.
 */
export interface Table {
  family: 'inet' | 'bridge' | 'netdev' | 'arp'
  name: string
  sets: NftSet[]
  chains: Chain[]
}

/** What a rule can look at; the words of nft(8). */
export type Field =
  | 'iifname'
  | 'oifname'
  | 'meta nfproto'
  | 'meta l4proto'
  | 'meta pkttype'
  | 'mark'
  | 'ether saddr'
  | 'ether daddr'
  | 'ether type'
  | 'arp operation'
  | 'arp saddr ether'
  | 'arp saddr ip'
  | 'ip saddr'
  | 'ip daddr'
  | 'ip6 saddr'
  | 'ip6 daddr'
  | 'icmp type'
  | 'icmpv6 type'
  | 'icmpv6 taddr'
  | 'th sport'
  | 'th dport'
  /** The first two of the three bytes of a VXLAN packet's identifier. */
  | '@th,96,16'
  | 'ct state'
  /** Beside `confirmed`: whether the connection's first packet got through already. */
  | 'ct status'
  | 'ct mark'
  | 'fib daddr type'
  /** Deals packets out to 64 shares, one after the other. */
  | typeof share

/**
 * Whether values of the field are bits that are asked for, rather than
 * compared: `ct state new,related`, `ct status ! confirmed`. A packet has one
 * state, so only `negated` tells the bits of a state from a set of states.
 */
export const areBits = (field: Field, negated: boolean): boolean =>
  field === 'ct status' || (field === 'ct state' && !negated)

/** For keys: lists that the kernel walks through get no longer than one share. */
export const share = 'numgen inc mod 64'
export const shares = 64

/**
 * A value of a field; ranges belong in interval sets, and names have no wildcards. Interface names, MACs, addresses and prefixes as text,
 * numbers as numbers, symbols (`arp`, `ip6`, `udp`, `new`, `local`,
 * `nd-router-advert`) as nft writes them.
 */
export type Value = string | number

export interface NftSet {
  name: string
  /** The fields an element's parts are compared with; more than one is a concatenation. */
  key: Field[]
  /** A verdict map when `verdict`; a plain set when absent. */
  map?: 'verdict'
  /** Elements are prefixes or ranges (single-field keys only). */
  interval?: boolean
  /**
   * Filled by the packet path, up to a size: by `update`, where elements end after `timeoutS` without a packet, or by `add`,
   * where they end with the last connection that they count.
   */
  dynamic?: { timeoutS?: number; size: number }
  elements: Element[]
}

export interface Element {
  key: Value[]
  /** For a verdict map. */
  verdict?: Verdict
}

export interface Chain {
  name: string
  /** Absent: a chain that others jump to. */
  base?: {
    type: 'filter' | 'nat' | 'route'
    hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting' | 'ingress' | 'egress'
    priority: number
    policy: 'accept' | 'drop'
    /** For netdev. */
    devices?: string[]
  }
  rules: Rule[]
}

export interface Rule {
  /** Why it is there, for the reader of `nft list ruleset`. At most 127 bytes. */
  comment?: string
  do: Statement[]
}

export type Verdict = 'accept' | 'drop' | 'return' | { jump: string } | { goto: string }

export type Statement =
  | { match: Field; is: Value | Value[] }
  | { match: Field; not: Value | Value[] }
  | { lookup: Field[]; in: string }
  | { lookup: Field[]; notIn: string }
  | { vmap: Field[]; map: string }
  /** Matches while the rate is exceeded. */
  | { limitOver: { rate: number; per: 'second' | 'minute'; burst: number } }
  /** Counts per key in a dynamic set; matches while that key's rate is exceeded. */
  | { update: string; key: Field[]; limitOver: { rate: number; per: 'second' | 'minute'; burst: number } }
  /** Counts open connections per key in a dynamic set, the packet's among them; matches while that key has more. */
  | { add: string; key: Field[]; countOver: number }
  | { counter: true }
  | { verdict: Verdict }
  | { masquerade: true }
  | { notrack: true }
  | { setMark: number }
