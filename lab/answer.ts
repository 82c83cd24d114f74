import type { CniResult } from '../src/cni/result.ts'

/** What CNI answered to a call, as people read it: each interface of the pod with its addresses; nothing for a call that has no result. */
export function answerText(result: unknown): string {
  const { interfaces = [], ips = [] } = (result ?? {}) as Partial<CniResult>
  return interfaces
    .flatMap(({ name, sandbox }, i) =>
      sandbox ? [[name, ...ips.filter((ip) => ip.interface === i).map((ip) => ip.address)].join(' ')] : [],
    )
    .join('\n')
}
