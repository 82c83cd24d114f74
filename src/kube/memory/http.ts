import { once } from 'node:events'
import { chmodSync, lstatSync, rmSync } from 'node:fs'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Extras, serveKube } from './server.ts'
import type { MemoryKube } from './store.ts'

export interface ServeOptions extends Extras {
  /** On 127.0.0.1; 0 (what it is when neither is given): any that is free. */
  port?: number
  /** A unix socket that only its owner can open. */
  socketPath?: string
}

export interface ServedKube {
  /** `http://127.0.0.1:<port>`, or `unix:<path>` where it listens on a socket only. */
  url: string
  /** `unix:<path>`, where there is one. */
  socketUrl?: string
  /** What kubectl needs to find it. */
  kubeconfig: string
  /** As if its machine had gone: connections are dropped and refused until `outage(false)`. */
  outage(on: boolean): Promise<void>
  close(): Promise<void>
}

/** Serves the API server in memory, on loopback and on a unix socket as asked. */
export async function serve(kube: MemoryKube, options: ServeOptions = {}): Promise<ServedKube> {
  const { port = options.socketPath === undefined ? 0 : undefined, socketPath } = options
  let tcpPort = port
  let servers: Server[] = []

  async function listen(): Promise<void> {
    if (tcpPort !== undefined) {
      const server = serveKube(kube, options).listen(tcpPort, '127.0.0.1')
      servers.push(server)
      await once(server, 'listening')
      // The same one again after an outage.
      tcpPort = (server.address() as AddressInfo).port
    }
    if (socketPath !== undefined) {
      // What a server that was killed left behind.
      if (lstatSync(socketPath, { throwIfNoEntry: false })?.isSocket()) rmSync(socketPath)
      const mask = process.umask(0o177)
      const server = serveKube(kube, options).listen(socketPath)
      process.umask(mask)
      servers.push(server)
      await once(server, 'listening')
      chmodSync(socketPath, 0o600)
    }
  }

  async function leave(): Promise<void> {
    const leaving = servers
    servers = []
    for (const server of leaving) {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    }
  }

  await listen()
  const socketUrl = socketPath === undefined ? undefined : `unix:${socketPath}`
  const url = tcpPort === undefined ? socketUrl! : `http://127.0.0.1:${tcpPort}`
  return {
    url,
    socketUrl,
    kubeconfig: kubeconfig(url),
    async outage(on) {
      if (on) await leave()
      else if (servers.length === 0) await listen()
    },
    close: leave,
  }
}

/** A kubeconfig for a server that asks nobody who they are. */
const kubeconfig = (url: string): string => `apiVersion: v1
kind: Config
clusters:
  - name: polynet
    cluster:
      server: ${url}
contexts:
  - name: polynet
    context:
      cluster: polynet
      user: polynet
      namespace: default
current-context: polynet
users:
  - name: polynet
    user: {}
`
