import * as certificate from '../src/lib/certificate.ts'

export type Identity = certificate.Identity

/** Who a certificate is for. */
export interface Subject {
  commonName: string
  organization?: string
  names?: readonly string[]
  addresses?: readonly string[]
}

/** For a server on this machine's loopback: valid as 127.0.0.1 and localhost. */
export const loopbackCertificate = (now = new Date()): Identity =>
  selfSigned({ commonName: 'polynet lab', names: ['localhost'], addresses: ['127.0.0.1'] }, now)

/** A key and a certificate that vouches for itself, PEM, valid for ten years. */
export function selfSigned({ names = [], addresses = [], ...subject }: Subject, from = new Date()): Identity {
  const until = new Date(from.getTime() + 3650 * 86_400_000)
  return certificate.selfSigned({ ...subject, names: [...names, ...addresses], from, until })
}
