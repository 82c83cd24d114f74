import { spawn } from 'node:child_process'

/** What a program prints, on both streams, and how it ended; 127 and why where it could not be started. */
export const outputOf = (
  [program = '', ...args]: string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<{ exit: number; output: string }> =>
  new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env })
    let output = ''
    const take = (chunk: string) => {
      output += chunk
    }
    child.stdout.setEncoding('utf8').on('data', take)
    child.stderr.setEncoding('utf8').on('data', take)
    child.on('error', (error) => resolve({ exit: 127, output: error.message }))
    child.on('close', (code) => resolve({ exit: code ?? 128, output }))
  })
