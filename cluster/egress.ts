import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, isIPv6, Socket } from 'node:net'
import { inside } from '../src/datapath/linux/netns.ts'
import { socket } from '../src/datapath/linux/syscall.ts'

/**
 * How the API server gets to pods, Services and webhooks: by HTTP CONNECT on
 * a unix socket. It is on none of the nodes, so it has neither kube-proxy nor
 * a way to pods; it goes by a node that has, as a program on that node would.
 * `nodes` are the network namespaces of those that are on; `isNear` tells
 * addresses that the control plane reaches by itself.
 */
export function serveEgress(path: string, nodes: () => string[], isNear: (address: string) => boolean): void {
  const server = createServer((_, answer) => answer.writeHead(405).end())
  server.on('connect', async ({ url = '' }, client: Socket, head: Buffer) => {
    client.on('error', () => client.destroy())
    const [, address = '', port = ''] = /^\[?([^\]]*)\]?:(\d+)$/.exec(url) ?? []
    const ways = isNear(address) ? [undefined] : nodes()
    for (const netns of ways) {
      const target = await connected(netns, address, Number(port))
      if (!target) continue
      target.on('error', () => client.destroy())
      target.on('close', () => client.destroy())
      client.on('close', () => target.destroy())
      client.write('HTTP/1.1 200 Connection established\r\n\r\n')
      if (head.length > 0) target.write(head)
      target.pipe(client).pipe(target)
      return
    }
    client.end('HTTP/1.1 503 Service Unavailable\r\n\r\n')
  })
  server.listen(path)
}

const withinMs = 3000

async function connected(netns: string | undefined, host: string, port: number): Promise<Socket | undefined> {
  let target: Socket | undefined
  try {
    if (netns === undefined) target = connect({ host, port })
    else {
      // A socket stays in the namespace that it was made in.
      const fd = inside(netns, () => socket(isIPv6(host) ? AF_INET6 : AF_INET, SOCK_STREAM, 0))
      const made = { fd, readable: true, writable: true, manualStart: true }
      target = new Socket(made).connect({ host, port })
    }
    target.setNoDelay(true)
    await once(target, 'connect', { signal: AbortSignal.timeout(withinMs) })
    return target
  } catch {
    target?.on('error', () => {}).destroy()
    return undefined
  }
}

const AF_INET = 2
const AF_INET6 = 10
const SOCK_STREAM = 1
