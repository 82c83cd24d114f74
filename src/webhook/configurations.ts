import { systemNamespace } from '../api/network.ts'
import { paths } from './answer.ts'
import { askingKeys } from './asked.ts'
import { configurationName } from './certificate.ts'
import { templateKinds } from './templates.ts'

/** Namespaces that nothing of the webhook touches: what the cluster itself runs on must start without it. */
export const exceptNamespaces = ['kube-system', systemNamespace] as const

const keys = `[${askingKeys.map((key) => `'${key}'`).join(', ')}]`
const saidIn = (metadata: string) => `${metadata}.?annotations[?k].orValue('')`
/** What another object made is not asked about: its writer was told. */
const unowned = 'object.metadata.?ownerReferences.orValue([]).size() == 0'

/** Conditions (CEL) on what the API server asks about; it lets everything else pass by itself. */
export const conditions = {
  /** A pod that asks for networks, and is not on its node's own. */
  asks: `${keys}.exists(k, ${saidIn('object.metadata')} != '') && !object.spec.?hostNetwork.orValue(false)`,
  /** A pod whose annotations say another thing than before. */
  asksAnew: `${keys}.exists(k, ${saidIn('object.metadata')} != ${saidIn('oldObject.metadata')})`,
  /** Polynet writes its kinds whether or not a webhook is there: nodes join without it. */
  says: "!request.userInfo.username.startsWith('system:serviceaccount:polynet-system:polynet-') && (request.operation == 'CREATE' || object.spec != oldObject.spec)",
  /** Templates of pods that ask for networks. */
  templateAsks: `${unowned} && ${keys}.exists(k, ${saidIn('object.spec.template.?metadata')} != '')`,
  jobTemplateAsks: `${unowned} && ${keys}.exists(k, ${saidIn('object.spec.jobTemplate.spec.template.?metadata')} != '')`,
} as const

/** How API servers reach the webhook: a Service, or a URL where it runs outside of the cluster. */
export type Reached =
  | { service: { namespace: string; name: string; port?: number } }
  /** Without a path. */
  | { url: string }

interface Rule {
  apiGroups: string[]
  apiVersions: string[]
  operations: string[]
  resources: string[]
  scope: '*'
}

const rule = (apiGroups: string[], resources: string[], operations = ['CREATE', 'UPDATE']): Rule => ({
  apiGroups,
  apiVersions: ['*'],
  operations,
  resources,
  scope: '*',
})

const workloads = Object.keys(templateKinds)
  .filter((kind) => kind !== 'CronJob')
  .map((kind) => `${kind.toLowerCase()}s`)

/** What the API server is told to ask about: a ValidatingWebhookConfiguration, and a MutatingWebhookConfiguration. */
export function webhookConfigurations(reached: Reached) {
  const webhook = (
    name: string,
    path: string,
    failurePolicy: 'Fail' | 'Ignore',
    rules: Rule[],
    condition?: { name: string; expression: string },
  ) => ({
    name: `${name}.polynet.dev`,
    admissionReviewVersions: ['v1'],
    clientConfig:
      'url' in reached ? { url: `${reached.url}${path}` } : { service: { ...reached.service, path } },
    rules,
    matchPolicy: 'Equivalent',
    failurePolicy,
    sideEffects: 'None',
    timeoutSeconds: 5,
    namespaceSelector: {
      matchExpressions: [
        { key: 'kubernetes.io/metadata.name', operator: 'NotIn', values: [...exceptNamespaces] },
      ],
    },
    ...(condition && { matchConditions: [condition] }),
  })
  const on = (name: keyof typeof conditions) => ({
    name: name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
    expression: conditions[name],
  })
  const { validate, mutate } = paths
  const created = [rule([''], ['pods'], ['CREATE'])]
  const configuration = (
    kind: string,
    webhooks: (ReturnType<typeof webhook> & { reinvocationPolicy?: string })[],
  ) => ({
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind,
    metadata: { name: configurationName },
    webhooks,
  })
  return [
    configuration('ValidatingWebhookConfiguration', [
      webhook('pods', validate, 'Fail', created, on('asks')),
      webhook('running-pods', validate, 'Ignore', [rule([''], ['pods'], ['UPDATE'])], on('asksAnew')),
      webhook(
        'networks',
        validate,
        'Fail',
        [rule(['polynet.dev'], ['networks', 'physicalnetworks', 'hostphysicalnetworks'])],
        on('says'),
      ),
      // Other programs read these as well, and made them before.
      webhook('definitions', validate, 'Ignore', [
        rule(['k8s.cni.cncf.io'], ['network-attachment-definitions']),
      ]),
      webhook('templates', validate, 'Ignore', [rule(['apps', 'batch'], workloads)], on('templateAsks')),
      webhook('cron-jobs', validate, 'Ignore', [rule(['batch'], ['cronjobs'])], on('jobTemplateAsks')),
    ]),
    configuration('MutatingWebhookConfiguration', [
      // Others may change terms and containers after it.
      { ...webhook('placement', mutate, 'Fail', created, on('asks')), reinvocationPolicy: 'IfNeeded' },
    ]),
  ] as const
}
