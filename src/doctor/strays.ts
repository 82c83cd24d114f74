import type { SandboxRecord } from '../agent/journal/record.ts'
import { elementLine, routeLine } from '../datapath/lines.ts'
import { namespaceName, uplinkName } from '../plan/names.ts'

/** What is in a kernel and belongs to nobody, a phrase each. */
export interface Strays {
  /** Of no pod. */
  ports: string[]
  /** Of no network. */
  networks: string[]
}

/** Compares what a kernel holds with the pods in the journal and the networks that are rendered. */
export function strays(kernel: string[], sandboxes: SandboxRecord[], networkUIDs: string[]): Strays {
  const ports = sandboxes.flatMap((s) => s.attachments.flatMap((a) => (a.kind === 'polynet' && a.port) || []))
  const links = new Set(ports.flatMap((p) => (p.link.kind === 'veth' ? [`${p.netns} ${p.link.name}`] : [])))
  const routes = new Set(ports.flatMap((p) => p.routes.map((r) => routeLine(p.netns, r))))
  const elements = new Set(
    ports.flatMap((p) => p.elements.map((e) => elementLine(p.netns, e.family, 'polynet', e.set, e))),
  )
  const sets = new Set(ports.flatMap((p) => p.elements.map((e) => e.set)))
  const namespaces = new Set(networkUIDs.map(namespaceName))
  const uplinks = new Set(networkUIDs.map(uplinkName))
  const found: Strays = { ports: [], networks: [] }
  /** A link that is nobody's is told of once, with all that leads to it. */
  const told = new Set<string>()
  const ofPort = (at: string, link: string, isWanted: boolean, line: string) => {
    if (isWanted) return
    if (links.has(`${at} ${link}`)) found.ports.push(line)
    else if (!told.has(`${at} ${link}`)) {
      told.add(`${at} ${link}`)
      found.ports.push(`link ${link} in namespace ${at}`)
    }
  }
  for (const line of kernel) {
    const [kind, at = '', ...words] = line.split(' ')
    if (kind === 'namespace' && !namespaces.has(at)) found.networks.push(`namespace ${at}`)
    // A namespace that is nobody's is told of with everything in it.
    if (at !== 'host' && !namespaces.has(at)) continue
    const link = linkOf(kind ?? '', words)
    if (uplinkShape.test(link) && at === 'host' && !uplinks.has(link) && !told.has(link)) {
      told.add(link)
      found.networks.push(`link ${link} in namespace ${at}`)
    }
    if (!portShape.test(link)) continue
    if (kind === 'route') ofPort(at, link, routes.has(line), line)
    else if (kind === 'element') {
      const set = words[2]?.replace(/:$/, '') ?? ''
      // Others the kernel fills by itself: a port's new connections, counted.
      const filled = links.has(`${at} ${link}`) && !sets.has(set)
      ofPort(at, link, filled || elements.has(line), line)
    } else ofPort(at, link, links.has(`${at} ${link}`), line)
  }
  return found
}

const portShape = /^pn[0-9a-f]{12}$/
const uplinkShape = /^pnu[0-9a-f]{12}$/

/** The link that a line of `describe` is about (`datapath/lines.ts`). */
function linkOf(kind: string, words: string[]): string {
  if (kind === 'route') return words[words.indexOf('link') + 1] ?? ''
  // <family> <table> <set>: <link> . …
  if (kind === 'element') return words[3] ?? ''
  return words[0] ?? ''
}
