import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parse } from 'yaml'
import { Fault } from '../../lib/fault.ts'

/** Where an API server is, and who we are to it. */
export interface ApiServer {
  /** `https://host:port` with an optional path; for a socket only its path prefix counts. */
  url: URL
  socketPath?: string
  ca?: string
  cert?: string
  key?: string
  /** Takes any certificate, as `insecure-skip-tls-verify` asks. */
  insecure?: boolean
  serverName?: string
  /** The `Authorization` header; asked for again with `fresh` after the server has refused it. */
  authorization?(fresh?: boolean): string | undefined
}

/**
 * The server that `api` names: `unix:/path`, a URL, or a kubeconfig. Without
 * it: the pod's service account, `$KUBECONFIG`, or `~/.kube/config`.
 */
export function apiServer(api?: string, env: NodeJS.ProcessEnv = process.env): ApiServer {
  if (api?.startsWith('unix:'))
    return { url: new URL('http://localhost'), socketPath: api.slice('unix:'.length) }
  if (api && /^https?:\/\//.test(api)) return { url: new URL(api) }
  if (api) return fromKubeconfig(api)
  if (env.KUBERNETES_SERVICE_HOST && existsSync(join(serviceAccount, 'token'))) return inCluster(env)
  const path = env.KUBECONFIG?.split(':').find(Boolean) ?? join(homedir(), '.kube', 'config')
  return fromKubeconfig(path)
}

const serviceAccount = '/var/run/secrets/kubernetes.io/serviceaccount'

function inCluster(env: NodeJS.ProcessEnv): ApiServer {
  const host = env.KUBERNETES_SERVICE_HOST!
  return {
    url: new URL(`https://${host.includes(':') ? `[${host}]` : host}:${env.KUBERNETES_SERVICE_PORT ?? 443}`),
    ca: readFileSync(join(serviceAccount, 'ca.crt'), 'utf8'),
    authorization: bearerFrom(join(serviceAccount, 'token')),
  }
}

/** The token in a file, read again each minute: the kubelet rotates it. */
function bearerFrom(path: string): (fresh?: boolean) => string {
  let read = 0
  let token = ''
  return (fresh = false) => {
    if (fresh || Date.now() - read > 60_000) {
      token = readFileSync(path, 'utf8').trim()
      read = Date.now()
    }
    return `Bearer ${token}`
  }
}

interface Kubeconfig {
  'current-context'?: string
  contexts?: { name: string; context: { cluster: string; user?: string } }[]
  clusters?: { name: string; cluster: Record<string, string | boolean | undefined> }[]
  users?: { name: string; user?: Record<string, string | undefined> }[]
}

/** What the current context of a kubeconfig says. Programs that print credentials (`exec`) are not run. */
function fromKubeconfig(path: string): ApiServer {
  const doing = `read kubeconfig ${path}`
  let config: Kubeconfig
  try {
    config = parse(readFileSync(path, 'utf8')) ?? {}
  } catch (error) {
    throw new Fault('invalid', doing, `${(error as Error).message}; name another one with --api`, error)
  }
  const named = <T extends { name: string }>(
    list: T[] | undefined,
    name: string | undefined,
    what: string,
  ): T => {
    const found = list?.find((item) => item.name === name)
    if (!found) throw new Fault('invalid', doing, `it has no ${what} ${JSON.stringify(name ?? '')}; add it`)
    return found
  }
  const { context } = named(config.contexts, config['current-context'], 'context')
  const { cluster } = named(config.clusters, context.cluster, 'cluster')
  const user: Record<string, string | undefined> = context.user
    ? (named(config.users, context.user, 'user').user ?? {})
    : {}
  if (user.exec || user['auth-provider'])
    throw new Fault(
      'unsupported',
      doing,
      'it gets its credentials from a program; use a token or a certificate',
    )
  const server = String(cluster.server ?? '')
  if (server.startsWith('unix:')) return apiServer(server)
  if (!URL.canParse(server))
    throw new Fault('invalid', doing, `server ${JSON.stringify(server)} is not a URL`)
  /** `x-data` in base64, or the file that `x` names, relative to the kubeconfig. */
  const pem = (from: Record<string, string | boolean | undefined>, key: string): string | undefined => {
    const data = from[`${key}-data`]
    if (typeof data === 'string') return Buffer.from(data, 'base64').toString()
    const file = from[key]
    return typeof file === 'string' && file !== ''
      ? readFileSync(resolve(dirname(path), file), 'utf8')
      : undefined
  }
  return {
    url: new URL(server),
    ca: pem(cluster, 'certificate-authority'),
    cert: pem(user, 'client-certificate'),
    key: pem(user, 'client-key'),
    insecure: cluster['insecure-skip-tls-verify'] === true,
    serverName: cluster['tls-server-name'] as string | undefined,
    authorization: authorizationOf(user, dirname(path)),
  }
}

function authorizationOf(user: Record<string, string | undefined>, base: string): ApiServer['authorization'] {
  if (user.tokenFile) return bearerFrom(resolve(base, user.tokenFile))
  if (user.token) return () => `Bearer ${user.token}`
  if (user.username === undefined) return undefined
  const basic = Buffer.from(`${user.username}:${user.password ?? ''}`).toString('base64')
  return () => `Basic ${basic}`
}
