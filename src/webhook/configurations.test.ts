import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { conditions, webhookConfigurations } from './configurations.ts'

const service = { namespace: 'polynet-system', name: 'polynet-webhook', port: 443 }

test('who is asked about what, and what happens when nobody answers', () => {
  const lines = webhookConfigurations({ service }).flatMap(({ kind, webhooks }) =>
    webhooks.map((webhook) => {
      const { name, rules, failurePolicy, timeoutSeconds, clientConfig } = webhook
      const what = rules.map((rule) => `${rule.operations.join('/')} ${rule.resources.join(', ')}`).join('; ')
      const path = clientConfig.service?.path
      return `${kind.replace('WebhookConfiguration', '')} ${name} ${path} ${failurePolicy} ${timeoutSeconds} s: ${what}`
    }),
  )
  assert.deepEqual(lines, [
    'Validating pods.polynet.dev /validate Fail 5 s: CREATE pods',
    'Validating running-pods.polynet.dev /validate Ignore 5 s: UPDATE pods',
    'Validating networks.polynet.dev /validate Fail 5 s: CREATE/UPDATE networks, physicalnetworks, hostphysicalnetworks',
    'Validating definitions.polynet.dev /validate Ignore 5 s: CREATE/UPDATE network-attachment-definitions',
    'Validating templates.polynet.dev /validate Ignore 5 s: CREATE/UPDATE deployments, statefulsets, daemonsets, replicasets, jobs',
    'Validating cron-jobs.polynet.dev /validate Ignore 5 s: CREATE/UPDATE cronjobs',
    'Mutating placement.polynet.dev /mutate Fail 5 s: CREATE pods',
  ])
})

test('nothing in the namespaces that the cluster and Polynet run in is asked about', () => {
  for (const { webhooks } of webhookConfigurations({ service }))
    for (const { namespaceSelector } of webhooks)
      assert.deepEqual(namespaceSelector, {
        matchExpressions: [
          {
            key: 'kubernetes.io/metadata.name',
            operator: 'NotIn',
            values: ['kube-system', 'polynet-system'],
          },
        ],
      })
})

test('the manual has the conditions as they are', () => {
  const manual = readFileSync(join(import.meta.dirname, '../../docs/webhook.md'), 'utf8')
  for (const condition of Object.values(conditions)) assert.ok(manual.includes(condition), condition)
})
