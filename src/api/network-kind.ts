import { ageColumn, fixed, type Kind, readyColumn, whyColumn } from './crd.ts'
import { formats } from './format.ts'
import { conditions, labelSelector } from './meta.ts'
import type { Network, Subnet } from './network.ts'
import { resources } from './resources.ts'
import type { Rule, Struct } from './schema.ts'

const ours = "(!has(self.plugin) || self.plugin == 'polynet')"
const direct = "(has(self.topology) && self.topology == 'Direct')"
const remake = 'make another Network and move the pods'

const maxSubnets = 16

const specRules: Rule[] = [
  fixed('plugin', remake, "'polynet'"),
  fixed('topology', remake, "'Layer3'"),
  fixed('physicalNetwork', remake),
  fixed('blockSize', remake),
  fixed('vlan', remake),
  fixed('direct', remake),
  fixed('mtu', remake),
  {
    // Compared place by place: of whatever is joined or mapped the API server cannot tell the cost.
    rule: `!has(oldSelf.subnets) || [${Array.from({ length: maxSubnets }, (_, i) => i)}].all(i, i >= oldSelf.subnets.size() || (has(self.subnets) && i < self.subnets.size() && self.subnets[i].cidr == oldSelf.subnets[i].cidr))`,
    message: 'the cidr of a subnet cannot be changed, moved or taken away; append another subnet instead',
  },
  {
    rule: `!${ours} || (has(self.subnets) && self.subnets.size() > 0)`,
    message: 'subnets are missing; give at least one cidr',
  },
  {
    rule: `!has(self.topology) || ${ours}`,
    message: 'topology is for plugin polynet; another plugin has its own, so leave it out',
  },
  {
    rule: `!has(self.config) || !${ours}`,
    message: 'config is for another plugin than polynet; name it in plugin, or leave config out',
  },
  {
    rule: `!has(self.vlan) || ${direct}`,
    message: 'vlan is for topology Direct; set that, or leave vlan out',
  },
  {
    rule: `!has(self.direct) || ${direct}`,
    message: 'direct is for topology Direct; set that, or leave direct out',
  },
]

const cidr: Struct<Subnet>['fields']['cidr'] = {
  type: 'string',
  required: true,
  description: 'The addresses, as a prefix. Cannot be changed later; another subnet can be appended.',
  format: formats.prefix,
}

const subnet: Struct<Subnet> = {
  type: 'object',
  description: 'A prefix of either family.',
  fields: {
    cidr,
    gateway: {
      type: 'string',
      description: 'The gateway. Absent: Layer3 networks need none, others take the first address.',
      format: formats.address,
    },
    ranges: {
      type: 'array',
      description: 'The addresses that pods may get. Absent: all of the cidr.',
      maxItems: 32,
      items: {
        type: 'object',
        description: 'From the first to the last address.',
        fields: {
          start: {
            type: 'string',
            required: true,
            description: 'The first address.',
            format: formats.address,
          },
          end: { type: 'string', required: true, description: 'The last address.', format: formats.address },
        },
      },
    },
    exclude: {
      type: 'array',
      description: 'Addresses and prefixes that pods never get.',
      maxItems: 256,
      items: { type: 'string', description: 'An address or a prefix.', format: formats.addressOrPrefix },
    },
  },
}

export const networkKind: Kind<Network> = {
  resource: resources.networks,
  shortNames: ['pn'],
  categories: ['polynet'],
  labelNames: true,
  status: true,
  columns: [
    {
      name: 'Physical',
      type: 'string',
      jsonPath: '.spec.physicalNetwork',
      description: 'The wire it runs over.',
    },
    { name: 'Plugin', type: 'string', jsonPath: '.spec.plugin', description: 'What makes its interfaces.' },
    { name: 'Topology', type: 'string', jsonPath: '.status.topology', description: 'How pods are joined.' },
    { name: 'Subnets', type: 'string', jsonPath: '.status.subnets', description: 'Its prefixes.' },
    { name: 'VNI', type: 'integer', jsonPath: '.status.vni', description: 'Its VXLAN network identifier.' },
    {
      name: 'Addresses',
      type: 'string',
      jsonPath: '.status.addresses',
      description: 'Addresses leased to nodes, of all.',
    },
    { name: 'Nodes', type: 'integer', jsonPath: '.status.nodes', description: 'Nodes that hold a block.' },
    readyColumn,
    ageColumn,
    { name: 'MTU', type: 'integer', jsonPath: '.status.mtu', description: 'Largest packet.', wide: true },
    whyColumn,
  ],
  schema: {
    type: 'object',
    description: 'A logical network that pods of its namespace, and of others it allows, can attach to.',
    fields: {
      spec: {
        type: 'object',
        required: true,
        description: 'What the network is.',
        rules: specRules,
        fields: {
          physicalNetwork: {
            type: 'string',
            description:
              "Name of the PhysicalNetwork it runs over. Absent: the wire that carries the nodes' own addresses. Cannot be changed later.",
            format: formats.label,
          },
          plugin: {
            type: 'string',
            description:
              'What makes the interfaces of pods: polynet, or the type or name of any CNI plugin installed on the nodes. Cannot be changed later.',
            format: formats.plugin,
            default: 'polynet',
          },
          topology: {
            type: 'string',
            description:
              'How pods are joined: Layer3 (routed, the default), Layer2 (one broadcast domain) or Direct (on the physical network itself). For plugin polynet only. Cannot be changed later.',
            enum: ['Layer3', 'Layer2', 'Direct'],
          },
          subnets: {
            type: 'array',
            description:
              'Where the addresses of pods come from; a pod gets one of each family. More can be appended later. Plugin polynet needs at least one.',
            maxItems: maxSubnets,
            keys: ['cidr'],
            items: subnet,
          },
          blockSize: {
            type: 'object',
            description:
              'How large the blocks are that nodes lease. Absent: /26 (IPv6: /122) where the first subnet of the family is a /20 (/116) or larger, else a 64th of it. Cannot be changed later.',
            fields: {
              ipv4: {
                type: 'integer',
                description: 'Prefix length of IPv4 blocks; 32 leases single addresses.',
                minimum: 16,
                maximum: 32,
              },
              ipv6: {
                type: 'integer',
                description: 'Prefix length of IPv6 blocks; 128 leases single addresses.',
                minimum: 112,
                maximum: 128,
              },
            },
          },
          vlan: {
            type: 'integer',
            description: 'VLAN on the physical network, for topology Direct. Cannot be changed later.',
            minimum: 1,
            maximum: 4094,
          },
          direct: {
            type: 'object',
            description: 'How a pod gets onto the wire, for topology Direct. Cannot be changed later.',
            fields: {
              mode: {
                type: 'string',
                required: true,
                description:
                  'One of macvlan (the default): a MAC of its own on the NIC. ipvlan: the MAC of the NIC. vlan: a VLAN interface of the NIC. host-device: the NIC itself, for one pod.',
                enum: ['macvlan', 'ipvlan', 'vlan', 'host-device'],
              },
            },
          },
          routes: {
            type: 'array',
            description: 'Destinations beside its own subnets that pods reach through it.',
            maxItems: 64,
            keys: ['to'],
            items: {
              type: 'object',
              description: 'One destination.',
              fields: {
                to: {
                  type: 'string',
                  required: true,
                  description: 'The destination.',
                  format: formats.prefix,
                },
                via: {
                  type: 'string',
                  description: "The next hop, within a subnet of the network. Absent: the network's gateway.",
                  format: formats.address,
                },
              },
            },
          },
          dns: {
            type: 'object',
            description:
              "How pods resolve names whose eth0 it is: written into them when they are made, unless they have a dnsPolicy or dnsConfig of their own. Absent: by the cluster's DNS, which a tenant's network does not reach.",
            fields: {
              nameservers: {
                type: 'array',
                required: true,
                description: 'Servers to ask, one to three.',
                maxItems: 3,
                set: true,
                items: { type: 'string', description: 'Address of a server.', format: formats.address },
              },
              searches: {
                type: 'array',
                description: 'Domains to look short names up in.',
                maxItems: 32,
                set: true,
                items: { type: 'string', description: 'A domain.', format: formats.subdomain },
              },
              options: {
                type: 'array',
                description: 'Options of resolv.conf(5), such as ndots:2.',
                maxItems: 16,
                set: true,
                items: { type: 'string', description: 'An option.', format: formats.word },
              },
            },
          },
          mtu: {
            type: 'integer',
            description:
              'Largest packet, in bytes. Absent: what the wires of all nodes carry, less the tunnel. Cannot be changed later.',
            minimum: 576,
            maximum: 65535,
          },
          primary: {
            type: 'boolean',
            description: "Whether it takes the pod's default route also when it is not eth0. Absent: no.",
          },
          allowedNamespaces: {
            type: 'object',
            description: 'Whose pods may attach, beside those of its own namespace.',
            default: { from: 'Same' },
            rules: [
              {
                rule: "(self.from == 'Selector') == has(self.selector)",
                message: 'selector belongs to from: Selector; give both or neither',
              },
            ],
            fields: {
              from: {
                type: 'string',
                required: true,
                description:
                  'Same: no others. Tenant: those of the same tenant. Selector: those that selector selects. All: every namespace.',
                enum: ['Same', 'Tenant', 'Selector', 'All'],
              },
              selector: labelSelector('Namespaces, by their labels; for from: Selector.'),
            },
          },
          config: {
            type: 'string',
            description:
              "For another plugin than polynet: its CNI configuration (a conf or a conflist), as JSON. Absent: the conf in the node's conf directory.",
            maxLength: 65536,
          },
        },
      },
      status: {
        type: 'object',
        description: 'What became of it; written by Polynet.',
        fields: {
          vni: {
            type: 'integer',
            description: 'VXLAN network identifier, unique on its wire.',
            minimum: 1,
            maximum: 2 ** 24 - 1,
          },
          mtu: { type: 'integer', description: 'Largest packet, in bytes.', minimum: 0, maximum: 65535 },
          nodes: {
            type: 'integer',
            description: 'Nodes that hold a block of it.',
            minimum: 0,
            maximum: 2 ** 31 - 1,
          },
          addresses: {
            type: 'string',
            description: 'Addresses leased to nodes, of all there are.',
            maxLength: 128,
          },
          topology: {
            type: 'string',
            description: 'The topology in effect.',
            enum: ['Layer3', 'Layer2', 'Direct'],
          },
          subnets: { type: 'string', description: 'The prefixes, for people.', maxLength: 1024 },
          conditions,
        },
      },
    },
  },
}
