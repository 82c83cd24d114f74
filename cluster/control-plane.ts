import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { stringify } from 'yaml'
import { type Identity, selfSigned } from '../lab/certificate.ts'
import { kubeconfigText } from '../lab/kubeconfig.ts'
import { Service } from './service.ts'
import { plan } from './wiring.ts'

/** Who may call the API server, and with which token. */
export interface Users {
  admin: string
  proxy: string
  flannel: string
  /** Of a node, by its name. */
  nodes: Record<string, string>
}

/**
 * etcd, the API server, the scheduler and the controller manager, as
 * processes in this process's own network namespace. Everything of theirs is
 * in one folder.
 */
export class ControlPlane {
  readonly users: Users
  /** The API server's; it vouches for itself. */
  readonly certificate: string
  readonly #dir: string
  readonly #etcd: Service
  readonly #api: Service
  readonly #others: Service[]

  /** `kubernetes` and `etcd` are the folders of those programs. */
  constructor(options: { dir: string; logs: string; kubernetes: string; etcd: string; nodes: string[] }) {
    const { dir, logs, kubernetes, etcd, nodes } = options
    this.#dir = dir
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    const at = (name: string) => join(dir, name)
    const token = () => randomBytes(24).toString('base64url')
    this.users = {
      admin: token(),
      proxy: token(),
      flannel: token(),
      nodes: Object.fromEntries(nodes.map((name) => [name, token()])),
    }
    const own = { manager: token(), scheduler: token() }
    const lines = [
      [this.users.admin, 'admin', 'admin', '"system:masters"'],
      [this.users.proxy, 'system:kube-proxy', 'kube-proxy'],
      [this.users.flannel, 'flannel', 'flannel'],
      [own.manager, 'system:kube-controller-manager', 'controller-manager'],
      [own.scheduler, 'system:kube-scheduler', 'scheduler'],
      ...nodes.map((name) => [this.users.nodes[name], `system:node:${name}`, name, '"system:nodes"']),
    ]
    this.#write('tokens.csv', lines.map((line) => `${line.join(',')}\n`).join(''))
    const serving = this.#identity('api', {
      commonName: 'kube-apiserver',
      names: [
        'kubernetes',
        'kubernetes.default',
        'kubernetes.default.svc',
        'kubernetes.default.svc.cluster.local',
        'localhost',
        ...['127.0.0.1', plan.apiService, plan.controlPlane],
      ],
    })
    this.certificate = serving.certificate
    this.#identity('kubelet-client', { commonName: 'kube-apiserver', organization: 'system:masters' })
    this.#identity('front-proxy', { commonName: 'front-proxy' })
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    this.#write('service-accounts.key', privateKey.export({ type: 'pkcs8', format: 'pem' }).toString())
    const kubeconfig = (name: string, secret: string) => {
      const server = 'https://127.0.0.1:6443'
      this.#write(name, kubeconfigText({ name, server, certificate: this.certificate, token: secret }))
      return at(name)
    }
    this.#write('egress.yaml', stringify(egressTo(this.egress)))
    kubeconfig('admin.kubeconfig', this.users.admin)
    this.#etcd = new Service({
      argv: [
        join(etcd, 'etcd'),
        `--data-dir=${at('etcd')}`,
        '--listen-client-urls=http://127.0.0.1:2379',
        '--advertise-client-urls=http://127.0.0.1:2379',
        '--listen-peer-urls=http://127.0.0.1:2380',
        // What a cluster here holds is not worth a disk's time.
        '--unsafe-no-fsync',
        '--log-level=warn',
      ],
      log: join(logs, 'etcd.log'),
    })
    this.#api = new Service({
      argv: [
        join(kubernetes, 'kube-apiserver'),
        '--etcd-servers=http://127.0.0.1:2379',
        `--advertise-address=${plan.controlPlane}`,
        '--secure-port=6443',
        `--tls-cert-file=${at('api.crt')}`,
        `--tls-private-key-file=${at('api.key')}`,
        `--token-auth-file=${at('tokens.csv')}`,
        '--authorization-mode=Node,RBAC',
        '--enable-admission-plugins=NodeRestriction',
        '--allow-privileged=true',
        '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
        `--service-account-signing-key-file=${at('service-accounts.key')}`,
        `--service-account-key-file=${at('service-accounts.key')}`,
        `--service-cluster-ip-range=${plan.serviceSubnets.join(',')}`,
        // By name it would ask a DNS that does not know nodes.
        '--kubelet-preferred-address-types=InternalIP',
        `--kubelet-client-certificate=${at('kubelet-client.crt')}`,
        `--kubelet-client-key=${at('kubelet-client.key')}`,
        `--requestheader-client-ca-file=${at('front-proxy.crt')}`,
        '--requestheader-allowed-names=front-proxy',
        '--requestheader-extra-headers-prefix=X-Remote-Extra-',
        '--requestheader-group-headers=X-Remote-Group',
        '--requestheader-username-headers=X-Remote-User',
        `--proxy-client-cert-file=${at('front-proxy.crt')}`,
        `--proxy-client-key-file=${at('front-proxy.key')}`,
        `--egress-selector-config-file=${at('egress.yaml')}`,
        '--profiling=false',
      ],
      log: join(logs, 'kube-apiserver.log'),
    })
    const managers = [
      [
        join(kubernetes, 'kube-controller-manager'),
        `--kubeconfig=${kubeconfig('controller-manager.kubeconfig', own.manager)}`,
        '--bind-address=127.0.0.1',
        '--leader-elect=false',
        '--use-service-account-credentials',
        // It starts its controllers one after another, each with some calls.
        '--kube-api-qps=500',
        '--kube-api-burst=1000',
        // A node that is off is known to be so in a quarter of a minute, not in one.
        '--node-monitor-period=2s',
        '--node-monitor-grace-period=16s',
        `--root-ca-file=${at('api.crt')}`,
        `--service-account-private-key-file=${at('service-accounts.key')}`,
        '--allocate-node-cidrs',
        `--cluster-cidr=${plan.podSubnets.join(',')}`,
        '--node-cidr-mask-size-ipv4=24',
        '--node-cidr-mask-size-ipv6=64',
        `--service-cluster-ip-range=${plan.serviceSubnets.join(',')}`,
      ],
      [
        join(kubernetes, 'kube-scheduler'),
        `--kubeconfig=${kubeconfig('scheduler.kubeconfig', own.scheduler)}`,
        '--bind-address=127.0.0.1',
        '--leader-elect=false',
      ],
    ]
    this.#others = managers.map(
      (argv) => new Service({ argv, log: join(logs, `${argv[0]!.split('/').at(-1)}.log`) }),
    )
  }

  /** The unix socket by which the API server asks for connections to pods and nodes. */
  get egress(): string {
    return join(this.#dir, 'egress.sock')
  }

  /** Where the certificate is by which kubelets know the API server. */
  get kubeletClients(): string {
    return join(this.#dir, 'kubelet-client.crt')
  }

  async start(): Promise<void> {
    this.#etcd.start()
    this.#api.start()
    await this.ready()
    for (const each of this.#others) each.start()
  }

  /** Resolves when the API server says that it is ready. */
  async ready(withinMs = 60_000): Promise<void> {
    const until = Date.now() + withinMs
    while (!(await this.#isReady())) {
      if (Date.now() > until) throw new Error(`the API server is not ready after ${withinMs / 1000} s`)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  async #isReady(): Promise<boolean> {
    try {
      return (await this.api('GET', '/readyz')).status === 200
    } catch {
      return false
    }
  }

  /** Asks the API server as the administrator. Rejects when it does not answer. */
  api(method: string, path: string, body?: unknown): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${this.users.admin}`, 'content-type': 'application/json' }
      const to = { host: '127.0.0.1', port: 6443, path, method, ca: this.certificate, headers }
      const asked = request({ ...to, agent: false, timeout: 5000 }, async (answer) => {
        resolve({ status: answer.statusCode ?? 0, body: await text(answer) })
      })
      asked.on('timeout', () => asked.destroy(new Error('the API server does not answer')))
      asked.on('error', reject)
      asked.end(body === undefined ? undefined : JSON.stringify(body))
    })
  }

  /** The API server is away; what it has stored stays. */
  async stopApi(): Promise<void> {
    await this.#api.stop('SIGKILL')
  }

  async startApi(): Promise<void> {
    this.#api.start()
    await this.ready()
  }

  async stopEtcd(): Promise<void> {
    await this.#etcd.stop('SIGKILL')
  }

  startEtcd(): void {
    this.#etcd.start()
  }

  /** Keeps a copy of what is stored now, by that name. The API server is away for a moment. */
  async saveEtcd(name: string): Promise<void> {
    await this.#whileOff(() => {
      const copy = join(this.#dir, `etcd-${name}`)
      rmSync(copy, { recursive: true, force: true })
      cpSync(join(this.#dir, 'etcd'), copy, { recursive: true })
    })
  }

  /** Puts back what `saveEtcd` kept: everything that was stored since is forgotten. */
  async restoreEtcd(name: string): Promise<void> {
    const copy = join(this.#dir, `etcd-${name}`)
    if (!existsSync(copy)) throw new Error(`nothing was kept as ${name}`)
    await this.#whileOff(() => {
      rmSync(join(this.#dir, 'etcd'), { recursive: true })
      cpSync(copy, join(this.#dir, 'etcd'), { recursive: true })
    })
  }

  async #whileOff(act: () => void): Promise<void> {
    const running = this.#api.running
    if (running) await this.stopApi()
    await this.stopEtcd()
    act()
    this.startEtcd()
    if (running) await this.startApi()
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#others, this.#api, this.#etcd].map((each) => each.stop('SIGKILL')))
  }

  #identity(name: string, subject: Parameters<typeof selfSigned>[0]): Identity {
    const identity = selfSigned(subject)
    this.#write(`${name}.crt`, identity.certificate)
    this.#write(`${name}.key`, identity.key)
    return identity
  }

  #write(name: string, text: string): void {
    writeFileSync(join(this.#dir, name), text, { mode: 0o600 })
  }
}

const egressTo = (udsName: string) => ({
  apiVersion: 'apiserver.k8s.io/v1beta1',
  kind: 'EgressSelectorConfiguration',
  egressSelections: [
    {
      name: 'cluster',
      connection: { proxyProtocol: 'HTTPConnect', transport: { uds: { udsName } } },
    },
  ],
})
