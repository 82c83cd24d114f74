import { isConfName } from '../../cni/conf.ts'

/** What the default network's own plugin may want to know of a pod, and so must be told to us. */
const capabilities = { portMappings: true, bandwidth: true }

/** What the runtime reads: every pod's network is asked of the shim. */
export const confText = `${JSON.stringify({ cniVersion: '1.1.0', name: 'polynet', plugins: [{ type: 'polynet-cni', capabilities }] }, null, 2)}\n`

/** The name of our conf, and the one it has where another's would come before that: a runtime takes the first of all. */
const confNames = ['00-polynet.conflist', '0-polynet.conflist'] as const

/** Those of Polynet, now and of old. */
export const isOurName = (name: string): boolean => /^\d*-polynet\.conflist$/.test(name)

export interface ConfPlace {
  /** The name for our conf. */
  name: string
  /** The others that a runtime would take before the usual one of ours, in order. */
  before: string[]
  /** Whether ours, by that name, is the first. */
  first: boolean
  /** Whether another plugin's conf is there, at whatever place. */
  others: boolean
}

/** Where our conf belongs in a directory that has these files. With `yielding` it has its usual name, whoever comes first. */
export function confPlace(files: readonly string[], yielding = false): ConfPlace {
  const others = files.filter((file) => isConfName(file) && !isOurName(file)).sort()
  const [usual, low] = confNames
  const before = others.filter((file) => file < usual)
  const name = before.length > 0 && !yielding ? low : usual
  return { name, before, first: others.every((file) => name < file), others: others.length > 0 }
}
