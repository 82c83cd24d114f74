import { spawn } from 'node:child_process'
import { Fault } from '../src/lib/fault.ts'

/** What the command lines of labs and clusters share. */

/** The NICs that `--nics` names. Throws `invalid` at a name that no machine here could have. */
export function nicsOf(text: string): string[] {
  const names = text.split(',').filter((name) => name !== '')
  const bad = names.find(
    (name, i) => !/^[a-z][a-z0-9]{0,13}$/.test(name) || name === 'eth0' || names.indexOf(name) !== i,
  )
  if (bad === undefined && names.length <= 20) return names
  throw new Fault(
    'invalid',
    `plug in NIC ${bad ?? 21}`,
    'at most 20, each with a name of its own of small letters and digits, eth0 left out',
  )
}

/** The integer that an option says. Throws `invalid` below `from` and above `to`. */
export function numberOf(option: string, text: string, from: number, to: number): number {
  const number = Number(text)
  if (Number.isInteger(number) && number >= from && number <= to) return number
  throw new Fault('invalid', `take ${option} ${text}`, `it is ${from} to ${to}`)
}

/** Runs a program in the namespaces of the process `pid`, on this terminal; resolves to its exit code. */
export function runInside(pid: number, argv: string[]): Promise<number> {
  const user = process.getuid?.() === 0 ? [] : ['--user', '--preserve-credentials']
  const args = [`--target=${pid}`, ...user, '--mount', '--net', '--pid', '--', ...argv]
  return new Promise((resolve, reject) => {
    const child = spawn('nsenter', args, { stdio: 'inherit' })
    child.on('error', reject)
    child.on('close', (code) => resolve(code ?? 128))
  })
}
