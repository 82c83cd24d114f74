import assert from 'node:assert/strict'
import { test } from 'node:test'
import { confPlace } from './conf-place.ts'

const cases: [files: string, yielding: boolean, want: string][] = [
  ['', false, '00-polynet.conflist first'],
  ['10-flannel.conflist', false, '00-polynet.conflist first, others'],
  ['00-polynet.conflist 10-flannel.conflist', false, '00-polynet.conflist first, others'],
  // one comes before ours
  ['00-polynet.conflist 00-a.conf', false, '0-polynet.conflist first, others, before: 00-a.conf'],
  ['00-multus.conf 10-flannel.conflist', false, '0-polynet.conflist first, others, before: 00-multus.conf'],
  ['00-multus.conf 0-polynet.conflist', false, '0-polynet.conflist first, others, before: 00-multus.conf'],
  ['00-multus.conf', true, '00-polynet.conflist, others, before: 00-multus.conf'],
  // nobody goes lower than that
  ['0-a.conf', false, '0-polynet.conflist, others, before: 0-a.conf'],
  // what no runtime reads
  ['00-a.conf.new README .00-a.conf nodes', false, '00-polynet.conflist first'],
  // ours of another release
  ['05-polynet.conflist', false, '00-polynet.conflist first'],
]
for (const [files, yielding, want] of cases)
  test(`our conf beside ${files || 'nothing'}${yielding ? ', yielding' : ''} is ${want}`, () => {
    const { name, first, others, before } = confPlace(files.split(' ').filter(Boolean), yielding)
    const words = [
      first ? `${name} first` : name,
      others && 'others',
      before.length > 0 && `before: ${before}`,
    ]
    assert.equal(words.filter(Boolean).join(', '), want)
  })
