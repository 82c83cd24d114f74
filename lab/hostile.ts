import { readFileSync } from 'node:fs'
import { packetSocket } from '../src/datapath/linux/sockets.ts'

/** Frames to put on interfaces, whatever is in them, and where to listen for what they carry. */
export interface Attack {
  /** Without `perSecond`, as fast as it goes. */
  send: { netns: string; device: string; frames: string[]; perSecond?: number }[]
  ears: { name: string; netns: string; device: string }[]
  /** In hexadecimal, as the frames; who hears these bytes has got one. */
  marker: string
}

const waitMs = 400

/** Runs inside a lab: sends the frames and prints who got one, by name, as JSON: `hostile.ts <file with the attack>`. */
const attack = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as Attack
const marker = Buffer.from(attack.marker, 'hex')
const ears = attack.ears.map((ear) => ({ ...ear, socket: packetSocket(ear.netns, ear.device) }))
const heard = new Set<string>()
const listen = () => {
  for (const { name, socket } of ears)
    for (const { data, outgoing } of socket.drain()) if (!outgoing && data.includes(marker)) heard.add(name)
}
for (const { netns, device, frames, perSecond = Infinity } of attack.send) {
  const socket = packetSocket(netns, device)
  const begun = performance.now()
  for (const [i, frame] of frames.entries()) {
    try {
      socket.send(Buffer.from(frame, 'hex'))
    } catch {
      // A full queue is no answer to the question who hears it.
    }
    if (i % 500 === 499) listen()
    const earlyMs = begun + ((i + 1) * 1000) / perSecond - performance.now()
    if (earlyMs > 10) await new Promise((resolve) => setTimeout(resolve, earlyMs))
  }
  socket.close()
}
for (const until = performance.now() + waitMs; performance.now() < until; ) {
  listen()
  await new Promise((resolve) => setTimeout(resolve, 5))
}
console.log(JSON.stringify([...heard].sort()))
process.exit()
