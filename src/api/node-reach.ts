/**
 * How a node says to the scheduler which physical networks it reaches: the
 * agent writes it on its own Node, the webhook asks for it in pods.
 */

const wireDomain = 'physical.polynet.dev/'
const nicDomain = 'nic.polynet.dev/'

/** The label of a node with a NIC that carries the physical network now. Its value is `true`. */
export const wireLabel = (physicalNetwork: string): string => `${wireDomain}${physicalNetwork}`

/** The extended resource of a node whose NIC to the physical network a pod can have as its own. */
export const nicResource = (physicalNetwork: string): string => `${nicDomain}${physicalNetwork}`

export const isWireLabel = (key: string): boolean => key.startsWith(wireDomain)
export const isNicResource = (key: string): boolean => key.startsWith(nicDomain)
