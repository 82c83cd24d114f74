import { createHash } from 'node:crypto'
import type { Package } from './debian.ts'
import type { Npm } from './programs.ts'

export interface Contents {
  name: string
  version: string
  debian: Package[]
  npm: Npm[]
  /** What is of neither: `{ name: 'node', … }`. */
  others: { name: string; version: string; license: string; purl: string; comment?: string }[]
}

/** What an image contains, as an SPDX 2.3 document. Pure: the same contents give the same text. */
export function sbomOf({ name, version, debian, npm, others }: Contents, epochS = 0): string {
  const packages = [
    ...debian.map((pkg) => ({
      ...described(
        'Deb',
        pkg.name,
        pkg.version,
        `pkg:deb/debian/${urlPart(pkg.name)}@${urlPart(pkg.version)}?arch=amd64`,
      ),
      checksums: [{ algorithm: 'SHA256', checksumValue: pkg.sha256 }],
      sourceInfo: `built package from: ${pkg.source}`,
      licenseComments: `see /usr/share/doc/${pkg.name}/copyright`,
    })),
    ...npm.map((pkg) => ({
      ...described('Npm', pkg.name, pkg.version, `pkg:npm/${urlPart(pkg.name)}@${pkg.version}`),
      licenseDeclared: pkg.license,
    })),
    ...others.map((pkg) => ({
      ...described('Other', pkg.name, pkg.version, pkg.purl),
      licenseDeclared: pkg.license,
      ...(pkg.comment && { comment: pkg.comment }),
    })),
  ]
  const digest = createHash('sha256').update(JSON.stringify(packages)).digest('hex').slice(0, 16)
  const contains = packages.map(({ SPDXID }) => ({
    spdxElementId: 'SPDXRef-Image',
    relationshipType: 'CONTAINS',
    relatedSpdxElement: SPDXID,
  }))
  const image = {
    ...described('', name, version),
    SPDXID: 'SPDXRef-Image',
    primaryPackagePurpose: 'CONTAINER',
  }
  const document = {
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: 'SPDXRef-DOCUMENT',
    name: `${name}-${version}`,
    documentNamespace: `https://polynet.dev/spdx/${name}-${version}-${digest}`,
    creationInfo: {
      created: new Date(epochS * 1000).toISOString().replace('.000Z', 'Z'),
      creators: ['Organization: Polynet'],
    },
    packages: [image, ...packages],
    relationships: [
      {
        spdxElementId: 'SPDXRef-DOCUMENT',
        relationshipType: 'DESCRIBES',
        relatedSpdxElement: 'SPDXRef-Image',
      },
      ...contains,
    ],
  }
  return `${JSON.stringify(document, null, 2)}\n`
}

const described = (kind: string, name: string, version: string, purl?: string) => ({
  SPDXID: `SPDXRef-${kind}-${`${name}-${version}`.replaceAll(/[^A-Za-z0-9.]+/g, '-').replace(/^-/, '')}`,
  name,
  versionInfo: version,
  downloadLocation: 'NOASSERTION',
  filesAnalyzed: false,
  licenseConcluded: 'NOASSERTION',
  licenseDeclared: 'NOASSERTION',
  copyrightText: 'NOASSERTION',
  ...(purl && {
    externalRefs: [{ referenceCategory: 'PACKAGE-MANAGER', referenceType: 'purl', referenceLocator: purl }],
  }),
})

const urlPart = (text: string): string => encodeURIComponent(text).replaceAll('%2F', '/')
