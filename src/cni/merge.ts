import type { CniDns, CniResult } from './result.ts'
import { newestVersion } from './versions.ts'

/**
 * One result for a pod's several attachments, which are in the order wanted.
 * A runtime takes the addresses of eth0, and those of no interface, for the
 * pod's (go-cni): so an address keeps its interface by its new number, and
 * one of no interface goes to the one in the pod that its own result lists.
 * A link of the node that is called like one in the pod is left out, because
 * runtimes keep interfaces by name.
 */
export function mergeResults(results: readonly CniResult[]): CniResult {
  const inside = new Set(
    results.flatMap((r) => (r.interfaces ?? []).filter((i) => i.sandbox).map((i) => i.name)),
  )
  const interfaces: NonNullable<CniResult['interfaces']> = []
  const ips: NonNullable<CniResult['ips']> = []
  for (const result of results) {
    const own = result.interfaces ?? []
    const numbers = own.map((link) =>
      link.sandbox || !inside.has(link.name) ? interfaces.push(link) - 1 : undefined,
    )
    const inPod = own.findIndex((link) => link.sandbox)
    for (const { interface: index = inPod, ...ip } of result.ips ?? []) {
      const number = numbers[index]
      ips.push({ ...ip, ...(number !== undefined && { interface: number }) })
    }
  }
  const routes = results.flatMap((r) => r.routes ?? [])
  const dns = mergeDns(results.flatMap((r) => r.dns ?? []))
  return {
    cniVersion: newestVersion,
    ...(interfaces.length && { interfaces }),
    ...(ips.length && { ips }),
    ...(routes.length && { routes }),
    ...(dns && { dns }),
  }
}

/** The lists one after another, each entry once; the first domain. */
function mergeDns(parts: CniDns[]): CniDns | undefined {
  const all = (key: 'nameservers' | 'search' | 'options') => {
    const found = [...new Set(parts.flatMap((part) => part[key] ?? []))]
    return found.length > 0 ? { [key]: found } : {}
  }
  const domain = parts.find((part) => part.domain)?.domain
  const merged = { ...all('nameservers'), ...(domain && { domain }), ...all('search'), ...all('options') }
  return Object.keys(merged).length > 0 ? merged : undefined
}
