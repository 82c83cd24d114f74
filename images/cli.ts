import { promisify } from 'node:util'
import { zstdCompress } from 'node:zlib'
import { Argument, Command } from 'commander'
import { answers, isFault } from '../src/lib/fault.ts'
import { buildImage, buildRoot, cacheDir, type ImageName, images, lock } from './images.ts'

/** `npm run images`: container images as tars, without a registry or a container engine. */
const program = new Command('npm run images --')
  .description('Builds container images as tars that containerd and Docker import')
  .addArgument(new Argument('[names...]', 'which').choices(Object.keys(images)).default(['polynet']))
  .option('--to <dir>', 'where they are put', cacheDir())
  .option('--root <dir>', 'put the files of one image into this folder instead')
  .option('--lock', "pin what Debian's archive has today in images/debian.lock, and build nothing")

const say = (line: string) => console.error(line)

interface Options {
  to: string
  root?: string
  lock?: boolean
}

program.action(async (names: ImageName[], { to, root, lock: locks }: Options) => {
  if (locks) return console.log(`images/debian.lock: ${await lock(say)} packages`)
  if (root) return await buildRoot(names[0]!, say, root)
  for (const which of names) {
    const { name, path, sbom, digest, size, layers } = await buildImage(which, say, to)
    const compressed = await Promise.all(layers.map((layer) => promisify(zstdCompress)(Buffer.concat(layer))))
    const small = compressed.reduce((sum, { length }) => sum + length, 0)
    console.log(`${name}  ${digest}`)
    console.log(`  ${mb(size)} unpacked, ${mb(small)} compressed (zstd); ${layers.length} layers`)
    console.log(`  ${path}\n  ${sbom}`)
  }
})

const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`

try {
  await program.parseAsync()
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error))
  process.exit(isFault(error) ? answers[error.kind].exit : 1)
}
