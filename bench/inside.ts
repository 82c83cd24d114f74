import { writeFileSync } from 'node:fs'
import { attach } from './attach.ts'
import { memory } from './memory.ts'

/** One bench, inside namespaces of its own: `inside.ts <name> <folder> <options> <file for what it found>`. */
const inside = { attach, memory }

// Whoever started it is gone, however that came about: with this process goes everything in its namespaces.
process.stdin.resume().on('end', () => process.exit(1))

const [name = '', dir = '', options = '{}', found = ''] = process.argv.slice(2)
try {
  const bench = inside[name as keyof typeof inside]
  writeFileSync(found, JSON.stringify(await bench(dir, JSON.parse(options))))
  process.exit(0)
} catch (error) {
  console.error(error)
  process.exit(1)
}
