import * as certificate from '../src/lib/certificate.ts'

export type Identity = certificate.Identity

/** For a server on this machine's loopback: valid as 127.0.0.1 and localhost. */
export const loopbackCertificate = (now = new Date()): Identity =>
  selfSigned({ commonName: 'polynet lab', names: ['localhost', '127.0.0.1'] }, now)

/** A key and a certificate that vouches for itself, PEM, valid for ten years. */
export function selfSigned(
  subject: Omit<certificate.Subject, 'from' | 'until'>,
  from = new Date(),
): Identity {
  const until = new Date(from.getTime() + 3650 * 86_400_000)
  return certificate.selfSigned({ ...subject, from, until })
}
