import type { Condition, KubeObject } from './meta.ts'

/** Kubernetes' own kinds, as far as Polynet reads or writes them. */
export interface Pod extends KubeObject {
  spec: {
    nodeName?: string
    hostNetwork?: boolean
    /** How the kubelet writes `resolv.conf`; absent: ClusterFirst. */
    dnsPolicy?: 'ClusterFirst' | 'ClusterFirstWithHostNet' | 'Default' | 'None'
    dnsConfig?: {
      nameservers?: string[]
      searches?: string[]
      options?: { name?: string; value?: string }[]
    }
    nodeSelector?: Record<string, string>
    affinity?: unknown
    tolerations?: { key?: string; operator?: string; value?: string; effect?: string }[]
    containers: Container[]
    initContainers?: Container[]
    restartPolicy?: 'Always' | 'OnFailure' | 'Never'
    terminationGracePeriodSeconds?: number
  }
  status?: {
    phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed'
    podIP?: string
    podIPs?: { ip: string }[]
    hostIP?: string
    startTime?: string
    message?: string
    reason?: string
    conditions?: {
      type: string
      status: string
      reason?: string
      message?: string
      lastTransitionTime?: string
    }[]
    containerStatuses?: {
      name: string
      ready: boolean
      restartCount: number
      image: string
      imageID: string
      containerID?: string
      started?: boolean
      state: Record<string, unknown>
    }[]
  }
}

export interface Container {
  name: string
  image?: string
  command?: string[]
  args?: string[]
  env?: { name: string; value?: string }[]
  ports?: { name?: string; containerPort: number; hostPort?: number; protocol?: string }[]
  resources?: { requests?: Record<string, string>; limits?: Record<string, string> }
  livenessProbe?: unknown
}

export interface Node extends KubeObject {
  spec: {
    podCIDR?: string
    podCIDRs?: string[]
    unschedulable?: boolean
    taints?: { key: string; value?: string; effect: string }[]
  }
  status?: {
    addresses?: { type: string; address: string }[]
    conditions?: {
      type: string
      status: string
      reason?: string
      message?: string
      lastTransitionTime?: string
    }[]
    capacity?: Record<string, string>
    allocatable?: Record<string, string>
    nodeInfo?: Record<string, string>
  }
}

export interface Namespace extends KubeObject {
  spec?: { finalizers?: string[] }
  status?: { phase?: 'Active' | 'Terminating' }
}

/** core/v1 Event. */
export interface Event extends KubeObject {
  involvedObject: { apiVersion?: string; kind: string; namespace?: string; name: string; uid?: string }
  reason: string
  message: string
  type: 'Normal' | 'Warning'
  source?: { component?: string; host?: string }
  reportingComponent?: string
  reportingInstance?: string
  firstTimestamp?: string
  lastTimestamp?: string
  count?: number
}

/** coordination.k8s.io/v1 Lease: who leads. */
export interface Lease extends KubeObject {
  spec: {
    holderIdentity?: string
    leaseDurationSeconds?: number
    acquireTime?: string
    renewTime?: string
    leaseTransitions?: number
  }
}

export interface Secret extends KubeObject {
  type?: string
  /** In base64. */
  data?: Record<string, string>
}

/** networking.k8s.io/v1 ServiceCIDR: addresses that Services get. */
export interface ServiceCIDR extends KubeObject {
  spec?: { cidrs?: string[] }
}

/** admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration and MutatingWebhookConfiguration. */
export interface WebhookConfiguration extends KubeObject {
  webhooks?: { name: string; clientConfig: { caBundle?: string } }[]
}

/** k8s.cni.cncf.io/v1 NetworkAttachmentDefinition (NPWG v1.3 section 3). */
export interface NetworkAttachmentDefinition extends KubeObject {
  spec?: { config?: string }
}

/** k8s.cni.cncf.io/v1alpha1 IPAMClaim (NPWG v1.3 section 8): addresses kept beyond the pod. */
export interface IPAMClaim extends KubeObject {
  spec: { network: string; interface: string }
  status?: { ips?: string[]; ownerPod?: { name: string }; conditions?: Condition[] }
}
