import { Fault } from '../../lib/fault.ts'
import { errno, errnoName, native } from '../../lib/libc.ts'

/** The system calls the datapath needs. Each throws a `kernel` fault that names the call's purpose, unless said otherwise. */

const c = {
  open: native('int open(const char *path, int flags, int mode)'),
  close: native('int close(int fd)'),
  setns: native('int setns(int fd, int type)'),
  unshare: native('int unshare(int flags)'),
  mount: native(
    'int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)',
  ),
  umount2: native('int umount2(const char *target, int flags)'),
  socket: native('int socket(int domain, int type, int protocol)'),
  bind: native('int bind(int fd, const void *address, unsigned int length)'),
  setsockopt: native('int setsockopt(int fd, int level, int name, const void *value, unsigned int length)'),
  getsockname: native('int getsockname(int fd, _Out_ void *address, _Inout_ void *length)'),
  send: native('long send(int fd, const void *data, size_t length, int flags)'),
  sendto: native(
    'long sendto(int fd, const void *data, size_t length, int flags, const void *address, unsigned int size)',
  ),
  recv: native('long recv(int fd, _Out_ void *data, size_t length, int flags)'),
  recvfrom: native(
    'long recvfrom(int fd, _Out_ void *data, size_t length, int flags, _Out_ void *address, _Inout_ void *size)',
  ),
  ioctl: native('int ioctl(int fd, unsigned long request, _Inout_ void *data)'),
}

const O_CLOEXEC = 0o2000000
export const CLONE_NEWNET = 0x40000000
const MS_BIND = 4096
const MNT_DETACH = 2
const SOCK_CLOEXEC = 0o2000000
export const SOCK_NONBLOCK = 0o4000
export const MSG_DONTWAIT = 0x40
const EAGAIN = 11
const EINTR = 4

function checked(result: number, doing: () => string): number {
  if (result >= 0) return result
  const code = errno()
  throw new Fault('kernel', doing(), errnoName(code))
}

/** For reading. */
export const open = (path: string): number => checked(c.open(path, O_CLOEXEC, 0), () => `open ${path}`)

export const close = (fd: number): void => {
  c.close(fd)
}

/** The error's number, 0 when it went well. */
export const setns = (fd: number, type: number): number => (c.setns(fd, type) === 0 ? 0 : errno())

export const unshare = (flags: number): void => {
  checked(c.unshare(flags), () => 'unshare the network namespace')
}

export const mountBind = (source: string, target: string): void => {
  checked(c.mount(source, target, 'none', MS_BIND, null), () => `bind ${source} onto ${target}`)
}

/** Whether something was mounted there. */
export const unmount = (target: string): boolean => c.umount2(target, MNT_DETACH) === 0

export const socket = (domain: number, type: number, protocol: number): number =>
  checked(
    c.socket(domain, type | SOCK_CLOEXEC, protocol),
    () => `open a socket (${domain}, ${type}, ${protocol})`,
  )

export const bind = (fd: number, address: Buffer): void => {
  checked(c.bind(fd, address, address.length), () => 'bind a socket')
}

/** Whether the kernel took the option. */
export function setOption(fd: number, level: number, name: number, value: number | Buffer): boolean {
  const bytes = typeof value === 'number' ? Buffer.alloc(4) : value
  if (typeof value === 'number') bytes.writeInt32LE(value)
  return c.setsockopt(fd, level, name, bytes, bytes.length) === 0
}

export function socketName(fd: number): Buffer {
  const address = Buffer.alloc(128)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(address.length)
  checked(c.getsockname(fd, address, length), () => "read a socket's address")
  return address.subarray(0, length.readUInt32LE())
}

export const send = (fd: number, data: Buffer, length: number): number =>
  checked(c.send(fd, data, length, 0), () => 'send to the kernel')

/** Like `send`, on a thread of the pool. */
export const sendAsync = (fd: number, data: Buffer, length: number): Promise<number> =>
  new Promise((resolve, reject) => {
    c.send.async(fd, data, length, 0, (error: unknown, result: number) =>
      error || result < 0
        ? reject(new Fault('kernel', 'send to the kernel', String(error ?? 'refused')))
        : resolve(result),
    )
  })

/** Bytes received into `buffer`; -1 when there is nothing (with MSG_DONTWAIT) or `-errno`. */
export function receive(fd: number, buffer: Buffer, flags: number): number {
  for (;;) {
    const length = c.recv(fd, buffer, buffer.length, flags) as number
    if (length >= 0) return length
    const code = errno()
    if (code !== EINTR) return code === EAGAIN ? -1 : -code
  }
}

export const sendTo = (fd: number, data: Buffer, address: Buffer): void => {
  checked(c.sendto(fd, data, data.length, MSG_DONTWAIT, address, address.length), () => 'send a packet')
}

/** One datagram and its sender, or undefined when there is none now. */
export function receiveFrom(fd: number, buffer: Buffer): { data: Buffer; from: Buffer } | undefined {
  const address = Buffer.alloc(128)
  const size = Buffer.alloc(4)
  size.writeUInt32LE(address.length)
  const length = c.recvfrom(fd, buffer, buffer.length, MSG_DONTWAIT, address, size) as number
  if (length < 0) return undefined
  return { data: Buffer.from(buffer.subarray(0, length)), from: address.subarray(0, size.readUInt32LE()) }
}

/** 0, or the error's number. */
export const ioctl = (fd: number, request: number, data: Buffer): number =>
  c.ioctl(fd, request, data) >= 0 ? 0 : errno()
