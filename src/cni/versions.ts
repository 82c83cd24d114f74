import { Fault, type Parsed, type Problem } from '../lib/fault.ts'
import { familyOf, parseAddress, parsePrefix } from '../lib/ip.ts'
import { isObject } from '../lib/json.ts'
import type { CniDns, CniResult, CniRoute } from './result.ts'

/**
 * A result in the forms that the specification has had: 0.1.0 and 0.2.0 with
 * one address per family, 0.3.0 to 0.4.0 with a family beside each address,
 * 1.0.0 and 1.1.0. Inside Polynet a result is of the newest form.
 */
export const resultVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const

export const newestVersion = '1.1.0'

/** Whether `version` is `than` or newer. Both are `a.b.c`. */
export function atLeast(version: string, than: string): boolean {
  const [a, b] = [version, than].map((v) => v.split('.').map(Number))
  const at = a!.findIndex((part, i) => part !== b![i])
  return at < 0 || a![at]! > b![at]!
}

/** The result as `version` writes it; what that version has no word for is left out. */
export function convertResult(result: CniResult, version: string): object {
  if (!(resultVersions as readonly string[]).includes(version))
    throw new Fault('invalid', `answer in CNI ${version}`, `Polynet speaks ${resultVersions.join(', ')}`)
  if (!atLeast(version, '0.3.0')) return to02(result, version)
  const { interfaces, ips, routes, dns } = result
  const old = !atLeast(version, '1.0.0')
  return {
    cniVersion: version,
    ...(interfaces?.length && {
      interfaces: old ? interfaces.map(({ mtu, socketPath, pciID, ...rest }) => rest) : interfaces,
    }),
    ...(ips?.length && {
      ips: old ? ips.map((ip) => ({ version: String(familyOf(ip.address)), ...ip })) : ips,
    }),
    ...(routes?.length && { routes }),
    ...(hasDns(dns) && { dns }),
  }
}

function to02({ ips = [], routes = [], dns }: CniResult, version: string): object {
  const part = (family: 4 | 6) => {
    const ip = ips.find(({ address }) => familyOf(address) === family)
    if (!ip) return undefined
    const own = routes
      .filter(({ dst }) => familyOf(dst) === family)
      .map(({ dst, gw }) => ({ dst, ...(gw && { gw }) }))
    return { ip: ip.address, ...(ip.gateway && { gateway: ip.gateway }), ...(own.length && { routes: own }) }
  }
  const [ip4, ip6] = [part(4), part(6)]
  if (!ip4 && !ip6)
    throw new Fault(
      'invalid',
      `answer in CNI ${version}`,
      'it needs an address and there is none; use 0.3.0 or newer',
    )
  return { cniVersion: version, ...(ip4 && { ip4 }), ...(ip6 && { ip6 }), ...(hasDns(dns) && { dns }) }
}

const hasDns = (dns: CniDns | undefined): boolean =>
  dns !== undefined && Object.values(dns).some((value) => value.length > 0)

/**
 * What a plugin printed, in the newest form, or all that is wrong with it. A
 * result that does not say its version is of the version it was asked in. An
 * address on an interface that the result does not list is on none.
 */
export function parseResult(printed: unknown, asked: string): Parsed<CniResult> {
  if (!isObject(printed))
    return { ok: false, problems: [{ path: '', problem: 'the result is no JSON object' }] }
  const version = printed.cniVersion || asked
  if (typeof version !== 'string' || !(resultVersions as readonly string[]).includes(version))
    return {
      ok: false,
      problems: [{ path: 'cniVersion', problem: `${JSON.stringify(version)} is not known` }],
    }
  const problems: Problem[] = []
  const read = new Reader(problems)
  const value = atLeast(version, '0.3.0') ? from03(printed, read) : from02(printed, read)
  return problems.length > 0 ? { ok: false, problems } : { ok: true, value }
}

type Json = Record<string, unknown>

/** Takes values of the right type out of JSON that anybody may have written, and notes the others. */
class Reader {
  readonly #problems: Problem[]

  constructor(problems: Problem[]) {
    this.#problems = problems
  }

  problem(path: string, problem: string): void {
    this.#problems.push({ path, problem })
  }

  list(from: Json, key: string, path = key): Json[] {
    const value = from[key] ?? []
    if (Array.isArray(value) && value.every(isObject)) return value
    this.problem(path, 'it is not a list of objects')
    return []
  }

  /** `{ [key]: value }` for each key that has a value of the type. */
  fields<K extends string, T extends 'string' | 'number'>(
    from: Json,
    path: string,
    type: T,
    keys: readonly K[],
  ): { [key in K]?: T extends 'string' ? string : number } {
    const found: Json = {}
    for (const key of keys) {
      const value = from[key]
      if (value === undefined || value === null || value === '') continue
      if (typeof value === type) found[key] = value
      else this.problem(`${path}.${key}`, `${JSON.stringify(value)} is not a ${type}`)
    }
    return found as { [key in K]?: T extends 'string' ? string : number }
  }

  text(from: Json, path: string, key: string, ok: (text: string) => boolean, what: string): string {
    const value = from[key]
    if (typeof value === 'string' && ok(value)) return value
    this.problem(`${path}.${key}`, `${JSON.stringify(value)} is not ${what}`)
    return ''
  }

  address(from: Json, path: string, key: string): string | undefined {
    if (from[key] === undefined || from[key] === null || from[key] === '') return undefined
    return this.text(from, path, key, (text) => parseAddress(text) !== undefined, 'an address')
  }

  prefix = (from: Json, path: string, key: string): string =>
    this.text(from, path, key, (text) => parsePrefix(text) !== undefined, 'an address with a prefix length')

  route(from: Json, path: string): CniRoute {
    const gw = this.address(from, path, 'gw')
    const numbers = this.fields(from, path, 'number', ['mtu', 'advmss', 'priority', 'table', 'scope'])
    return { dst: this.prefix(from, path, 'dst'), ...(gw && { gw }), ...numbers }
  }

  dns(from: Json): CniDns | undefined {
    const { dns } = from
    if (dns === undefined || dns === null) return undefined
    if (!isObject(dns)) {
      this.problem('dns', 'it is not an object')
      return undefined
    }
    const lists: Json = {}
    for (const key of ['nameservers', 'search', 'options']) {
      const value = dns[key] ?? []
      if (!Array.isArray(value) || !value.every((v) => typeof v === 'string'))
        this.problem(`dns.${key}`, 'it is not a list of strings')
      else if (value.length > 0) lists[key] = value
    }
    const found: CniDns = { ...lists, ...this.fields(dns, 'dns', 'string', ['domain']) }
    return hasDns(found) ? found : undefined
  }
}

function from03(printed: Json, read: Reader): CniResult {
  const interfaces = read.list(printed, 'interfaces').map((from, i) => ({
    name: read.text(from, `interfaces[${i}]`, 'name', (text) => text !== '', 'a name'),
    ...read.fields(from, `interfaces[${i}]`, 'string', ['mac', 'sandbox', 'socketPath', 'pciID']),
    ...read.fields(from, `interfaces[${i}]`, 'number', ['mtu']),
  }))
  const ips = read.list(printed, 'ips').map((from, i) => {
    const gateway = read.address(from, `ips[${i}]`, 'gateway')
    const { interface: index } = read.fields(from, `ips[${i}]`, 'number', ['interface'])
    const listed = index !== undefined && interfaces[index] !== undefined
    return {
      address: read.prefix(from, `ips[${i}]`, 'address'),
      ...(gateway && { gateway }),
      ...(listed && { interface: index }),
    }
  })
  const routes = read.list(printed, 'routes').map((from, i) => read.route(from, `routes[${i}]`))
  return whole(interfaces, ips, routes, read.dns(printed))
}

function from02(printed: Json, read: Reader): CniResult {
  const ips: NonNullable<CniResult['ips']> = []
  const routes: CniRoute[] = []
  for (const key of ['ip4', 'ip6']) {
    const from = printed[key]
    if (from === undefined || from === null) continue
    if (!isObject(from)) {
      read.problem(key, 'it is not an object')
      continue
    }
    const gateway = read.address(from, key, 'gateway')
    ips.push({ address: read.prefix(from, key, 'ip'), ...(gateway && { gateway }) })
    const own = read.list(from, 'routes', `${key}.routes`)
    routes.push(...own.map((route, i) => read.route(route, `${key}.routes[${i}]`)))
  }
  return whole([], ips, routes, read.dns(printed))
}

const whole = (
  interfaces: NonNullable<CniResult['interfaces']>,
  ips: NonNullable<CniResult['ips']>,
  routes: CniRoute[],
  dns: CniDns | undefined,
): CniResult => ({
  cniVersion: newestVersion,
  ...(interfaces.length && { interfaces }),
  ...(ips.length && { ips }),
  ...(routes.length && { routes }),
  ...(dns && { dns }),
})
