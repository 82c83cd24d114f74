import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { place } from './kubelet.ts'
import type { Node } from './node.ts'
import { Service } from './service.ts'
import { plan } from './wiring.ts'

export interface FlannelOptions {
  node: Node
  logs: string
  /** The folders of flanneld and of its plugin. */
  programs: { flannel: string; plugin: string }
  /** How it gets to the API server. */
  kubeconfig: string
}

/** flanneld on the node, as its DaemonSet would run it; its files are there. IPv4 only, as it comes. */
export function flanneldOn({ node, logs, programs, kubeconfig }: FlannelOptions): Service {
  const dir = '/var/lib/polynet-cluster'
  mkdirSync(node.path(dir), { recursive: true, mode: 0o700 })
  writeFileSync(node.path(join(dir, 'flannel.kubeconfig')), kubeconfig, { mode: 0o600 })
  const [network] = plan.podSubnets
  const net = { Network: network, EnableNFTables: true, Backend: { Type: 'vxlan' } }
  writeFileSync(node.path(join(dir, 'flannel.json')), JSON.stringify(net))
  place(join(programs.plugin, 'flannel'), node.path('/opt/cni/bin/flannel'))
  return new Service({
    argv: [
      ...node.prefix,
      join(programs.flannel, 'flanneld'),
      '--kube-subnet-mgr',
      `--kubeconfig-file=${dir}/flannel.kubeconfig`,
      `--net-config-path=${dir}/flannel.json`,
      '--iface=eth0',
      '--ip-masq',
    ],
    log: join(logs, `${node.name}-flanneld.log`),
    env: { NODE_NAME: node.name },
  })
}

/** Makes flannel the node's default network. */
export const configureFlannel = (node: Node): void =>
  node.putConf('10-flannel.conflist', {
    name: 'cbr0',
    cniVersion: '0.3.1',
    plugins: [
      { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  })
