import { spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { stringify } from 'yaml'
import { kubeconfigText } from '../lab/kubeconfig.ts'
import { Fault } from '../src/lib/fault.ts'
import { createCgroup } from './cgroups.ts'
import { systemPath } from './debian.ts'
import { pauseImage } from './images.ts'
import type { Node } from './node.ts'
import { Service } from './service.ts'
import { plan } from './wiring.ts'

export interface KubeletOptions {
  node: Node
  /** Of the node, as it tells the API server. */
  addresses: string[]
  logs: string
  /** The folders of the programs. */
  programs: { kubernetes: string; containerd: string; plugins: string }
  /** The node's control group, which no other node has. */
  cgroup: string
  api: { server: string; certificate: string; token: string; proxyToken: string; kubeletClients: string }
  /** `docker save` files that its containerd has from the start, the one of pause first. */
  images: string[]
  /** Whether containerd looks every second at what each container uses, as it does where nobody says otherwise. */
  metered: boolean
}

/** What Kubernetes runs on a node: containerd, kubelet, kube-proxy. */
export class Kubelet {
  readonly #options: KubeletOptions
  #services: { containerd: Service; kubelet: Service; proxy: Service } | undefined

  /** They are on its disk, which a reboot keeps. */
  #loaded = false

  constructor(options: KubeletOptions) {
    this.#options = options
  }

  /** The node must be on. */
  async start(): Promise<void> {
    const { node, programs, logs, cgroup, images } = this.#options
    createCgroup(cgroup)
    this.#configure()
    const prefix = node.prefix
    const path = `${programs.containerd}:${systemPath}`
    const service = (name: string, ...argv: string[]) =>
      new Service({
        argv: [...prefix, ...argv],
        log: join(logs, `${node.name}-${name}.log`),
        env: { PATH: path },
      })
    const config = `/var/lib/polynet-cluster`
    const containerd = service(
      'containerd',
      join(programs.containerd, 'containerd'),
      `--config=${config}/containerd.toml`,
    )
    const kubelet = service(
      'kubelet',
      join(programs.kubernetes, 'kubelet'),
      `--config=${config}/kubelet.yaml`,
      `--kubeconfig=${config}/kubelet.kubeconfig`,
      `--hostname-override=${node.name}`,
      `--node-ip=${this.#options.addresses.join(',')}`,
    )
    const proxy = service(
      'kube-proxy',
      join(programs.kubernetes, 'kube-proxy'),
      `--kubeconfig=${config}/kube-proxy.kubeconfig`,
      `--hostname-override=${node.name}`,
      '--proxy-mode=nftables',
      `--cluster-cidr=${plan.podSubnets.join(',')}`,
      // These are settings of the kernel, not of a node of ours.
      '--conntrack-max-per-core=0',
      '--conntrack-tcp-timeout-established=0',
      '--conntrack-tcp-timeout-close-wait=0',
    )
    this.#services = { containerd, kubelet, proxy }
    containerd.start()
    await this.#containerdAnswers()
    // A kubelet asks for nothing but the first one, pause, before somebody runs something.
    const [pause, ...rest] = this.#loaded ? [] : images
    if (pause) await this.loadImage(pause)
    kubelet.start()
    proxy.start()
    for (const tar of rest) await this.loadImage(tar)
    this.#loaded = true
  }

  /** Takes the images in a `docker save` file. */
  async loadImage(tar: string): Promise<void> {
    await this.#ctr(['images', 'import', '--local', '--digests=false', tar])
  }

  /** Ends and starts it again; what it ran goes on. */
  async restart(
    which: 'containerd' | 'kubelet' | 'proxy',
    signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM',
  ): Promise<void> {
    const service = this.#services?.[which]
    await service?.stop(signal)
    service?.start()
  }

  /** The services end; what containerd runs goes on. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGKILL'): Promise<void> {
    const { kubelet, proxy, containerd } = this.#services ?? {}
    this.#services = undefined
    await Promise.all([kubelet?.stop(signal), proxy?.stop(signal)])
    await containerd?.stop(signal)
  }

  #configure(): void {
    const { node, programs, api, cgroup, metered } = this.#options
    const dir = '/var/lib/polynet-cluster'
    const write = (name: string, content: string) => {
      const path = node.path(join(dir, name))
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
      writeFileSync(path, content, { mode: 0o600 })
    }
    const { server, certificate } = api
    write('kubelet.kubeconfig', kubeconfigText({ name: node.name, server, certificate, token: api.token }))
    write(
      'kube-proxy.kubeconfig',
      kubeconfigText({ name: 'kube-proxy', server, certificate, token: api.proxyToken }),
    )
    write('kubelet-clients.crt', api.kubeletClients)
    write('containerd.toml', containerdConfig(metered))
    write('kubelet.yaml', stringify(kubeletConfig({ cgroup, dir })))
    for (const name of [
      'loopback',
      'bridge',
      'host-local',
      'portmap',
      'host-device',
      'macvlan',
      'ptp',
      'static',
      'bandwidth',
      'tuning',
      'firewall',
      'sbr',
    ])
      place(join(programs.plugins, name), node.path(`/opt/cni/bin/${name}`))
  }

  async #containerdAnswers(): Promise<void> {
    for (let tries = 0; ; tries++)
      try {
        await this.#ctr(['version'])
        return
      } catch (error) {
        if (tries > 100) throw error
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
  }

  async #ctr(args: string[]): Promise<string> {
    const { node, programs } = this.#options
    const [program = '', ...rest] = [
      ...node.prefix,
      join(programs.containerd, 'ctr'),
      '-n',
      'k8s.io',
      ...args,
    ]
    const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'] })
    const ended = new Promise<number>((resolve) => child.on('close', (code) => resolve(code ?? 128)))
    const [out, err, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
    if (code === 0) return out
    throw new Fault('unavailable', `run ctr ${args.slice(0, 2).join(' ')} on ${node.name}`, err.trim())
  }
}

/** A program where nobody finds half of it; one that is there stays. */
export function place(from: string, to: string): void {
  if (existsSync(to)) return
  cpSync(from, `${to}.new`)
  renameSync(`${to}.new`, to)
}

const containerdConfig = (metered: boolean): string => `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.cri.v1.runtime"]
  # Not every machine's root may make a process safer from the kernel than it is itself.
  restrict_oom_score_adj = true${metered ? '' : unmetered}
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/opt/cni/bin"]
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "${pauseImage}"
`

const unmetered = `
  stats_collect_period = "1h"
  stats_retention_period = "2h"`

const kubeletConfig = (options: { cgroup: string; dir: string }) => ({
  apiVersion: 'kubelet.config.k8s.io/v1beta1',
  kind: 'KubeletConfiguration',
  containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
  cgroupDriver: 'cgroupfs',
  cgroupRoot: `/${options.cgroup}`,
  failCgroupV1: false,
  clusterDNS: [plan.dnsService],
  clusterDomain: 'cluster.local',
  resolvConf: '',
  authentication: {
    anonymous: { enabled: false },
    webhook: { enabled: true },
    x509: { clientCAFile: join(options.dir, 'kubelet-clients.crt') },
  },
  authorization: { mode: 'Webhook' },
  address: '0.0.0.0',
  staticPodPath: '/etc/kubernetes/manifests',
  fileCheckFrequency: '2s',
  volumePluginDir: '/var/lib/kubelet/volume-plugins',
  failSwapOn: false,
  maxPods: 250,
  // What is killed again and again comes back at once, not in minutes.
  featureGates: { KubeletCrashLoopBackOffMax: true },
  crashLoopBackOff: { maxContainerRestartPeriod: '1s' },
  // Four signs of life within what the controller manager waits for.
  nodeLeaseDurationSeconds: 16,
  nodeStatusUpdateFrequency: '4s',
  // A full disk of the machine it runs on is no reason to end pods.
  evictionHard: {
    'nodefs.available': '0%',
    'imagefs.available': '0%',
    'nodefs.inodesFree': '0%',
    'imagefs.inodesFree': '0%',
    'memory.available': '0%',
  },
  imageGCHighThresholdPercent: 100,
  imageMinimumGCAge: '24h',
})
