/**
 * What a CNI plugin answers (SPEC 1.1, "Success"), in the newest form. Older
 * versions are converted at the border.
 */
export interface CniResult {
  cniVersion: string
  interfaces?: {
    name: string
    mac?: string
    mtu?: number
    sandbox?: string
    socketPath?: string
    pciID?: string
  }[]
  ips?: { address: string; gateway?: string; interface?: number }[]
  routes?: CniRoute[]
  dns?: CniDns
}

export interface CniRoute {
  dst: string
  gw?: string
  mtu?: number
  advmss?: number
  priority?: number
  table?: number
  scope?: number
}

export interface CniDns {
  nameservers?: string[]
  domain?: string
  search?: string[]
  options?: string[]
}

/** The error form of the same (SPEC 1.1, "Error"). */
export interface CniError {
  cniVersion: string
  code: number
  msg: string
  details?: string
}
