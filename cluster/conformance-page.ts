/** What a run of the conformance tests came to. */
export interface Run {
  kubernetes: string
  containerd: string
  nodes: number
  passed: string[]
}

const [begin, end] = ['<!-- begin: npm run test:conformance -->', '<!-- end -->']

/** The page with what this run came to in the place that is kept for it. */
export function pageWith(page: string, run: Run): string {
  const [head, rest = ''] = page.split(begin)
  const [, tail = '\n'] = rest.split(end)
  return `${head?.trimEnd()}\n\n${begin}\n\n${sectionOf(run)}\n${end}${tail}`
}

function sectionOf({ kubernetes, containerd, nodes, passed }: Run): string {
  const versions = `Kubernetes ${kubernetes}, containerd ${containerd}, kube-proxy by nftables, ${nodes} nodes.`
  const list = passed.toSorted().map((name) => `- ${shown(name)}\n`)
  return `${versions} All ${passed.length} tests passed:\n\n${list.join('')}`
}

/** Without what all of them have in common. */
const shown = (name: string): string =>
  name
    .replace('[sig-network] ', '')
    .replace(/ \[(Node)?Conformance\]/g, '')
    .replace(/ +/g, ' ')
    .replaceAll('[', '\\[')
