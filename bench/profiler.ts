import { basename } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { argumentsOf, everyProcess } from '../cluster/processes.ts'

/**
 * Profiles a program that runs: `profiler.ts <pid, or an argument of its
 * command line>`, in its network namespace. Prints `profiling`, and when its
 * stdin ends the profile of the program's main thread. The program needs no
 * flag: it opens Node's inspector, on its own loopback, when SIGUSR1 comes.
 */
const port = 9229
/** Of an ADD that takes milliseconds. */
const intervalUs = 250

/** As far as it is read here. */
interface Message {
  id?: number
  result?: { profile?: unknown }
  error?: { message: string }
}

type Call = (method: string, params?: object) => Promise<NonNullable<Message['result']>>

/** Speaks the inspector's protocol over `socket`. */
function callerOf(socket: WebSocket): Call {
  const waiting = new Map<number, PromiseWithResolvers<NonNullable<Message['result']>>>()
  let last = 0
  socket.onmessage = ({ data }) => {
    const { id = 0, result = {}, error } = JSON.parse(String(data)) as Message
    const answer = waiting.get(id)
    waiting.delete(id)
    if (error) answer?.reject(new Error(error.message))
    else answer?.resolve(result)
  }
  return (method, params = {}) => {
    const answer = Promise.withResolvers<NonNullable<Message['result']>>()
    waiting.set(++last, answer)
    socket.send(JSON.stringify({ id: last, method, params }))
    return answer.promise
  }
}

/** The socket of its inspector, which opens a moment after it was asked to. */
async function inspectorOf(pid: number): Promise<WebSocket> {
  process.kill(pid, 'SIGUSR1')
  for (let attempt = 0; ; attempt++) {
    try {
      const targets = await fetch(`http://127.0.0.1:${port}/json/list`)
      const [target] = (await targets.json()) as { webSocketDebuggerUrl: string }[]
      const socket = new WebSocket(target!.webSocketDebuggerUrl)
      await new Promise((resolve, reject) => {
        socket.onopen = resolve
        socket.onerror = reject
      })
      return socket
    } catch (error) {
      if (attempt === 100)
        throw new Error(`profile process ${pid}: its inspector does not answer`, { cause: error })
      await sleep(50)
    }
  }
}

/** Starts to profile; `stop` gives what was found, and closes the inspector. */
async function profile(pid: number): Promise<{ stop(): Promise<unknown> }> {
  const call = callerOf(await inspectorOf(pid))
  await call('Profiler.enable')
  await call('Profiler.setSamplingInterval', { interval: intervalUs })
  await call('Profiler.start')
  return {
    async stop() {
      const found = (await call('Profiler.stop')).profile
      // Nobody is to find it open. It does not answer any more.
      void call('Runtime.evaluate', { expression: "process.getBuiltinModule('inspector').close()" })
      return found
    },
  }
}

function processNamed(word: string): number {
  const pid = everyProcess().find((pid) => {
    // This one has the word among its arguments, too.
    if (pid === process.pid) return false
    const [program = '', ...args] = argumentsOf(pid)
    // Another program would end by the signal.
    return basename(program) === 'node' && args.includes(word)
  })
  if (pid === undefined) throw new Error(`profile ${word}: no process runs that`)
  return pid
}

const [word = ''] = process.argv.slice(2)
const { stop } = await profile(/^\d+$/.test(word) ? Number(word) : processNamed(word))
process.stdout.write('profiling\n')
process.stdin.resume().once('end', async () => {
  process.stdout.write(JSON.stringify(await stop()), () => process.exit(0))
})
