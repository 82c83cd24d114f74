import { Fault } from '../lib/fault.ts'
import type { Plugins } from './plugins.ts'

/** Those of a simulated machine: none is installed. */
export const noPlugins: Plugins = {
  confs: async () => [],
  add: async ({ conf }) => {
    throw new Fault('plugin', `run plugin ${conf.name}`, 'there is none on a simulated machine; use a lab')
  },
  del: async () => {},
  check: async () => {},
}
