import type { CniResult } from '../cni/result.ts'
import type { SandboxRecord } from './journal/record.ts'
import type { Wanted } from './wanted.ts'

/** What each attachment came to, in CNI's words and in their order: so a runtime finds eth0's addresses under eth0. */
export function attachmentResults(record: SandboxRecord, wanted: Wanted[]): CniResult[] {
  return record.attachments.map((a, index): CniResult => {
    if (a.kind === 'plugin') return a.result ?? { cniVersion: '1.1.0' }
    const by = wanted[index]?.by
    const port = a.port
    const spec = by?.kind === 'polynet' ? by.network.spec : undefined
    return {
      cniVersion: '1.1.0',
      interfaces: [
        {
          name: a.interface,
          ...(port?.inside.mac ? { mac: port.inside.mac } : {}),
          ...(port ? { mtu: port.inside.mtu } : {}),
          sandbox: record.netns,
        },
      ],
      // As the kernel has them: a routed pod's neighbours are not on its link.
      ips: (port?.inside.addresses ?? []).map((address, i) => {
        const gateway = a.held?.addresses[i]?.gateway
        return { address, ...(gateway ? { gateway } : {}), interface: 0 }
      }),
      routes: (port?.inside.routes ?? [])
        .filter(({ table }) => table === undefined)
        .map(({ to, via }) => ({ dst: to, ...(via ? { gw: via } : {}) })),
      ...(spec?.dns
        ? { dns: { nameservers: spec.dns.nameservers, search: spec.dns.searches, options: spec.dns.options } }
        : {}),
    }
  })
}
