import { createServer, request, type Server } from 'node:http'
import { text } from 'node:stream/consumers'
import { asFault, Fault } from '../src/lib/fault.ts'

/** Answers calls of `target`'s methods that `names` lists, on a unix socket. */
export function serveCalls<T extends object>(
  socketPath: string,
  target: T,
  names: readonly (keyof T & string)[],
): Server {
  const server = createServer(async (asked, answer) => {
    try {
      const name = (asked.url ?? '').slice(1) as keyof T & string
      if (!names.includes(name)) throw new Fault('unsupported', `call ${name}`, 'there is no such call')
      const args = JSON.parse(await text(asked)) as unknown[]
      const value = await (target[name] as (...args: unknown[]) => unknown)(
        ...args.map((arg) => arg ?? undefined),
      )
      answer.end(JSON.stringify({ value }))
    } catch (error) {
      const { kind, doing, problem } = asFault(error, 'run the cluster')
      answer.end(JSON.stringify({ fault: { kind, doing, problem } }))
    }
  })
  server.requestTimeout = 0
  return server.listen(socketPath)
}

/** Nobody answers, or not any more. */
export class Unanswered extends Fault {
  constructor(call: string, why: string) {
    super('unavailable', `ask the cluster to ${call}`, `${why}; start one with npm run cluster -- up`)
  }
}

/** The other side of `serveCalls`. */
export function callsTo<T extends object>(socketPath: string, names: readonly (keyof T & string)[]): T {
  const call = (name: string, args: unknown[]) =>
    new Promise((resolve, reject) => {
      const lost = (why: string) => reject(new Unanswered(name, why))
      const asked = request(
        { socketPath, path: `/${name}`, method: 'POST', agent: false },
        async (answer) => {
          try {
            const { value, fault } = JSON.parse(await text(answer))
            if (fault) reject(new Fault(fault.kind, fault.doing, fault.problem))
            else resolve(value)
          } catch (error) {
            lost((error as Error).message)
          }
        },
      )
      asked.on('error', (error) => lost(error.message))
      asked.end(JSON.stringify(args))
    })
  return Object.fromEntries(names.map((name) => [name, (...args: unknown[]) => call(name, args)])) as T
}
