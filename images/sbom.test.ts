import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sbomOf } from './sbom.ts'

const contents = {
  name: 'polynet',
  version: '0.1.0',
  debian: [
    { name: 'libstdc++6', version: '12.2.0-14+deb12u1', source: 'gcc-12', sha256: '5cd3', entries: [] },
  ],
  npm: [
    { name: '@scope/native', version: '1.0.0', license: 'MIT', dir: 'node_modules/@scope/native', files: [] },
    { name: 'deep', version: '1.0.0', license: 'ISC', dir: 'node_modules/deep', files: [] },
    { name: 'deep', version: '2.0.0', license: 'ISC', dir: 'node_modules/pino/node_modules/deep', files: [] },
  ],
  others: [{ name: 'node', version: '26.10.0', license: 'MIT', purl: 'pkg:generic/node@26.10.0' }],
}

test('an SBOM names every package once, with its version, licence and package URL', () => {
  const { packages } = JSON.parse(sbomOf(contents))
  assert.equal(
    packages
      .map((p: Record<string, string> & { externalRefs?: { referenceLocator: string }[] }) =>
        [p.SPDXID, p.versionInfo, p.licenseDeclared, p.externalRefs?.[0]?.referenceLocator ?? '-'].join(' '),
      )
      .join('\n'),
    `\
SPDXRef-Image 0.1.0 NOASSERTION -
SPDXRef-Deb-libstdc-6-12.2.0-14-deb12u1 12.2.0-14+deb12u1 NOASSERTION pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64
SPDXRef-Npm-scope-native-1.0.0 1.0.0 MIT pkg:npm/%40scope/native@1.0.0
SPDXRef-Npm-deep-1.0.0 1.0.0 ISC pkg:npm/deep@1.0.0
SPDXRef-Npm-deep-2.0.0 2.0.0 ISC pkg:npm/deep@2.0.0
SPDXRef-Other-node-26.10.0 26.10.0 MIT pkg:generic/node@26.10.0`,
  )
})

test('every package is one that the image contains, and the same contents give the same document', () => {
  const { packages, relationships } = JSON.parse(sbomOf(contents))
  const ids = packages.map(({ SPDXID }: { SPDXID: string }) => SPDXID)
  assert.equal(new Set(ids).size, ids.length)
  assert.deepEqual(
    relationships.map(({ relatedSpdxElement }: { relatedSpdxElement: string }) => relatedSpdxElement),
    ids,
  )
  assert.equal(sbomOf(contents), sbomOf(structuredClone(contents)))
})
