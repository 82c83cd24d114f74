import { type Command, Option } from 'commander'
import { answers, asFault, Fault, isFault } from './fault.ts'
import { type Prefix, parsePrefix } from './ip.ts'
import { jsonLog } from './log.ts'

/** Options that several programs have. */
export const apiOption = new Option(
  '--api <url>',
  'the API server: a kubeconfig, or unix:/path; in a pod, what the service account says',
)
export const probesOption = new Option(
  '--probes <address>',
  '/healthz, /readyz and /metrics: host:port or unix:/path',
)
export const logLevelOption = new Option('--log-level <level>', 'debug, info, warn or error').default(
  process.env.POLYNET_LOG ?? 'info',
)

/** Resolves when the process is told to end, by SIGTERM or SIGINT; called first of all, so that it does not end half started. */
export const toldToEnd = (): Promise<void> =>
  new Promise((resolve) => {
    process.once('SIGTERM', () => resolve())
    process.once('SIGINT', () => resolve())
  })

/**
 * The action of a program that runs until it is told to end: exits with 0
 * after `run`, and with the code of the fault that it rejects with, which is
 * logged under the program's name.
 */
export const exiting =
  <Options>(name: string, run: (options: Options) => Promise<void>) =>
  async (options: Options): Promise<never> => {
    try {
      await run(options)
      process.exit(0)
    } catch (error) {
      jsonLog(name).error(error instanceof Error ? error.message : String(error))
      process.exit(isFault(error) ? answers[error.kind].exit : 1)
    }
  }

/**
 * Does what the command line says. What is wrong with it, and what its
 * command rejects with, is said on stderr; `process.exitCode` is the fault's.
 */
export async function obey(program: Command, doing: string): Promise<void> {
  for (const command of [program, ...program.commands])
    command.exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : answers.invalid.exit))
  try {
    await program.parseAsync()
  } catch (error) {
    const fault = asFault(error, doing)
    console.error(fault.message)
    process.exitCode = answers[fault.kind].exit
  }
}

/** The prefix that an option says, without host bits. Throws `invalid`, with one that would do, where it is none. */
export function prefixIn(option: string, text: string, example: string): Prefix {
  const prefix = parsePrefix(text)
  if (prefix) return prefix
  throw new Fault('invalid', `read ${option}`, `${text} is no prefix; write one like ${example}`)
}
