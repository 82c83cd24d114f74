import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { toolDir } from '../../cluster/build.ts'
import { inCluster, onNode, output, startService } from './on-node.ts'
import { type Place, until } from './place.ts'

const etcdUrl = 'http://192.168.1.10:2479'
const network = '10.246.0.0/16'

/** The conf of flannel's plugin, whose bridge is not that of the default network. */
export const flannelConf = {
  name: 'flannel',
  cniVersion: '0.3.1',
  type: 'flannel',
  delegate: { bridge: 'cni-flannel', isGateway: true },
}

/**
 * flannel with VXLAN between these nodes, beside their default network:
 * flanneld with an etcd of its own, since in the API server the nodes'
 * subnets are the default network's. It masquerades nothing and adds no rule
 * to the firewall, which would be in the way of other pods on these nodes.
 */
export async function startFlannel(place: Place, nodes: string[]): Promise<{ close(): Promise<void> }> {
  const running: { close(): Promise<unknown> }[] = []
  const start = (where: string[], name: string, argv: string[]) =>
    running.push(startService(where, join(place.dir, `${name}.log`), argv))
  const close = async () => {
    for (const each of running.reverse()) await each.close()
    for (const node of nodes)
      for (const link of ['flannel.1', 'cni-flannel'])
        await output([...(await onNode(place, node)), 'ip', 'link', 'delete', link]).catch(() => {})
  }
  try {
    const etcd = join(await toolDir('etcd'), 'etcd')
    start(inCluster(place), 'flannel-etcd', [
      ...[etcd, `--data-dir=${join(place.dir, 'flannel-etcd')}`, '--unsafe-no-fsync'],
      ...[`--listen-client-urls=${etcdUrl}`, `--advertise-client-urls=${etcdUrl}`],
      ...['--listen-peer-urls=http://127.0.0.1:2480', '--log-level=error'],
    ])
    const text = (value: string) => Buffer.from(value).toString('base64')
    const config = JSON.stringify({ Network: network, EnableNFTables: true, Backend: { Type: 'vxlan' } })
    const put = JSON.stringify({ key: text('/coreos.com/network/config'), value: text(config) })
    const script = join(place.dir, 'put.mjs')
    writeFileSync(
      script,
      `const { ok } = await fetch('${etcdUrl}/v3/kv/put', { method: 'POST', body: ${JSON.stringify(put)} })
       process.exit(ok ? 0 : 1)`,
    )
    const succeeds = (argv: string[]) =>
      output(argv).then(
        () => true,
        () => false,
      )
    await until('flannel’s etcd', () => succeeds([...inCluster(place), process.execPath, script]))
    const [flanneld, plugin] = [await toolDir('flannel'), await toolDir('flannel-plugin')]
    for (const node of nodes) {
      await place.cluster.exec(node, ['cp', join(plugin, 'flannel'), '/opt/cni/bin/flannel'])
      const on = await onNode(place, node)
      start(on, `flanneld-${node}`, [
        join(flanneld, 'flanneld'),
        ...[`--etcd-endpoints=${etcdUrl}`, '--iface=eth0', '--iptables-forward-rules=false'],
      ])
      await until(`flannel on ${node}`, () => succeeds([...on, 'test', '-e', '/run/flannel/subnet.env']))
    }
    return { close }
  } catch (error) {
    await close()
    throw error
  }
}
