import { createServer, type Server } from 'node:http'
import { Fault } from './fault.ts'

/** What a program tells Prometheus, in its text format. */
export interface MetricsPage {
  text(): Promise<string>
  contentType: string
}

/**
 * `/healthz` (the process answers), `/readyz` (it can do its work; 503 says
 * why not) and `/metrics`, on `host:port` or `unix:/path`.
 */
export async function serveProbes(
  listen: string,
  unready: () => string | undefined,
  metrics: MetricsPage,
): Promise<{ close(): Promise<void> }> {
  const server: Server = createServer(async (request, response) => {
    const answer = (status: number, body: string, type = 'text/plain; charset=utf-8') =>
      response.writeHead(status, { 'content-type': type }).end(body)
    switch (request.url?.split('?')[0]) {
      case '/healthz':
        return answer(200, 'ok\n')
      case '/readyz': {
        const why = unready()
        return why === undefined ? answer(200, 'ok\n') : answer(503, `${why}\n`)
      }
      case '/metrics':
        return answer(200, await metrics.text(), metrics.contentType)
      default:
        return answer(404, 'there are /healthz, /readyz and /metrics\n')
    }
  })
  const colon = listen.lastIndexOf(':')
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'another program has that address' : error.message
      reject(new Fault('exists', `serve probes on ${listen}`, `${why}; choose another with --probes`, error))
    })
    if (listen.startsWith('unix:')) server.listen(listen.slice(5), resolve)
    else server.listen(Number(listen.slice(colon + 1)), listen.slice(0, colon) || undefined, resolve)
  })
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
