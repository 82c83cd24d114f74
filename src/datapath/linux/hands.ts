import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { Fault, type Kind } from '../../lib/fault.ts'
import { Kernel } from './kernel.ts'

/**
 * The thread that works on the kernel, so that the caller's never waits for
 * it. A request is `[id, method, argument]`, the argument as JSON, which takes
 * half as long as a structured clone; its answer `[id, result]` or
 * `[id, undefined, fault]`.
 */
export type Request = [id: number, method: Method, argument?: string]
export type Method =
  | 'replace'
  | 'attach'
  | 'detach'
  | 'check'
  | 'nics'
  | 'tunnels'
  | 'programsOn'
  | 'describe'
  | 'close'
export type Answer = [
  id: number,
  result: unknown,
  fault?: { kind: Kind; doing: string; problem: string; stack?: string },
]

if (!isMainThread && parentPort && workerData?.polynetHands) {
  const port = parentPort
  const { runDir, hostNetns } = workerData.polynetHands as { runDir: string; hostNetns: string }
  let kernel: Kernel | undefined
  port.on('message', async ([id, method, argument]: Request) => {
    try {
      kernel ??= new Kernel(runDir, hostNetns)
      const value = argument === undefined ? undefined : JSON.parse(argument)
      port.postMessage([id, await kernel[method](value as never)] satisfies Answer)
    } catch (error) {
      const fault = error instanceof Fault ? error : new Fault('kernel', method, String(error), error)
      const { kind, doing, problem, stack } = fault
      port.postMessage([id, undefined, { kind, doing, problem, stack }] satisfies Answer)
    }
    if (method === 'close') port.close()
  })
}
