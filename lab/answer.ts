import type { CniResult } from '../src/cni/result.ts'
import { asFault } from '../src/lib/fault.ts'
import { withoutLength } from '../src/lib/ip.ts'

/** How a call of CNI came out, for people: with 0 what it answered, with 1 why it did not. Never rejects. */
export async function answered(call: Promise<unknown>): Promise<{ exit: number; output: string }> {
  try {
    return { exit: 0, output: answerText(await call) }
  } catch (error) {
    return { exit: 1, output: asFault(error, 'ask CNI').message }
  }
}

/** Each interface of the pod with its addresses; nothing for a call that has no result. */
function answerText(result: unknown): string {
  const { interfaces = [], ips = [] } = (result ?? {}) as Partial<CniResult>
  return interfaces
    .flatMap(({ name, sandbox }, i) =>
      sandbox ? [[name, ...ips.filter((ip) => ip.interface === i).map((ip) => ip.address)].join(' ')] : [],
    )
    .join('\n')
}

/** What kubelet takes for the pod's: the addresses of eth0 inside the sandbox. */
export function addressesIn({ interfaces, ips = [] }: CniResult): string[] {
  const eth0 = interfaces?.findIndex((each) => each.name === 'eth0' && each.sandbox)
  return ips
    .filter((ip) => ip.interface === undefined || ip.interface === eth0)
    .map((ip) => withoutLength(ip.address))
}
