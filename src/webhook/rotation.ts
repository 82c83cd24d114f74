import { createPrivateKey, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { type Identity, selfSigned } from '../lib/certificate.ts'

/** What the replicas of the webhook have in common. */
export interface Kept {
  serving: Identity
  /** Serves once everybody has heard of it. */
  next?: Identity
  /** The certificate that served before; some replica may still have it. */
  previous?: string
}

const hour = 3_600_000
const day = 24 * hour
/** How long a certificate is good for; with a third of that left its successor is made. */
export const lifetimeMs = 90 * day
/** How long a successor is known before it serves: API servers watch what they trust. */
export const overlapMs = hour
/** Clocks of API servers may be behind. */
const skewMs = hour

/**
 * Pure but for new keys: what shall be kept at `now`, the same object where
 * that is what is kept. `names` are the server's; `announced` says whether
 * the API server trusts the successor already.
 */
export function rotated(
  kept: Kept | undefined,
  names: readonly string[],
  now: number,
  announced: boolean,
): Kept {
  if (!kept || !isGood(kept.serving, names, now)) {
    const serving = kept?.next && isGood(kept.next, names, now) ? kept.next : fresh(names, now)
    return { serving, ...withPrevious(kept?.serving.certificate, now) }
  }
  const { serving, next, previous } = kept
  if (next && isGood(next, names, now)) {
    const since = Date.parse(new X509Certificate(next.certificate).validFrom) + skewMs
    if (!announced || now < since + overlapMs) return kept
    return { serving: next, ...withPrevious(serving.certificate, now) }
  }
  const left = Date.parse(new X509Certificate(serving.certificate).validTo) - now
  if (left < lifetimeMs / 3) return { ...kept, next: fresh(names, now) }
  if (previous === undefined || isValid(previous, now)) return kept
  return { serving }
}

/** Everything that API servers have to trust, in one order whoever writes it. */
export const bundleOf = ({ serving, next, previous }: Kept): string =>
  [serving.certificate, next?.certificate, previous]
    .filter((each) => each !== undefined)
    .sort()
    .join('')

const fresh = (names: readonly string[], now: number): Identity =>
  selfSigned({
    commonName: names[0] ?? '',
    names,
    from: new Date(now - skewMs),
    until: new Date(now + lifetimeMs),
  })

const withPrevious = (certificate: string | undefined, now: number): Pick<Kept, 'previous'> =>
  certificate !== undefined && isValid(certificate, now) ? { previous: certificate } : {}

function isValid(certificate: string, now: number): boolean {
  try {
    const { validFrom, validTo } = new X509Certificate(certificate)
    return Date.parse(validFrom) <= now && now < Date.parse(validTo)
  } catch {
    return false
  }
}

/** Whether a server of these names can use it. What others wrote into the Secret may be anything. */
function isGood({ key, certificate }: Identity, names: readonly string[], now: number): boolean {
  if (!isValid(certificate, now)) return false
  try {
    const parsed = new X509Certificate(certificate)
    const known = names.every((name) => (isIP(name) ? parsed.checkIP(name) : parsed.checkHost(name)))
    return known && parsed.checkPrivateKey(createPrivateKey(key))
  } catch {
    return false
  }
}
