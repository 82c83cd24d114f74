import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { readJournal } from '../src/agent/journal/file.ts'
import { linuxDatapath } from '../src/datapath/linux/linux.ts'
import { heldLines } from './held.ts'

/** Prints everything that Polynet owns on the machine it runs on, a line each: `leftovers.ts <root>`. */
const [root = '/'] = process.argv.slice(2)
const datapath = await linuxDatapath({ runDir: join(root, 'run/polynet') })
for (const line of await datapath.describe()) console.log(line)
await datapath.close()
for (const line of heldLines(await readJournal(join(root, 'var/lib/polynet/journal')))) console.log(line)
for (const dir of ['run/netns', 'var/lib/polynet/spool', 'var/lib/cni'])
  for (const file of filesBelow(join(root, dir))) console.log(`file ${dir}/${file}`)

function filesBelow(dir: string): string[] {
  try {
    return readdirSync(dir, { recursive: true, encoding: 'utf8' }).sort()
  } catch {
    return []
  }
}
process.exit()
