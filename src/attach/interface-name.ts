import { shown } from './text.ts'

/** Names that a kernel gives by itself in any namespace, or reads as something else below /proc/sys/net and /sys. */
const taken = new Set([
  'lo',
  'all',
  'default',
  'bonding_masters',
  ...['tunl0', 'sit0', 'ip6tnl0', 'gre0', 'gretap0', 'erspan0', 'ip6gre0', 'ip_vti0', 'ip6_vti0'],
])

/**
 * What is wrong with an interface name that a pod asks for, and the remedy;
 * undefined when nothing is. Stricter than the kernel (15 bytes, no slash,
 * colon or whitespace), so that a name is one word wherever it is printed.
 */
export function interfaceNameProblem(name: string): string | undefined {
  const say = (problem: string) => `interface name ${shown(name)} ${problem}`
  if (name.length > 15) return say('is longer than 15 characters; shorten it')
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(name))
    return say('is not one the kernel takes; use letters, digits, dot, dash and underscore')
  if (taken.has(name)) return say('belongs to the kernel; choose another, like eth1')
  if (name.startsWith('pn'))
    return say('begins with pn, which marks what Polynet owns; choose another, like eth1')
  return undefined
}
