import { test } from 'node:test'
import { datapathConformance } from '../conformance.ts'
import { impossible } from './possible.ts'
import { twoNodes } from './two-nodes.ts'

const reason = impossible()
if (reason) test('the Linux datapath', { skip: reason }, () => {})
else datapathConformance('linux', twoNodes)
