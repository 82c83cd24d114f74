import type { KubeObject } from '../api/meta.ts'

/** admission.k8s.io/v1 AdmissionReview, as far as a webhook reads and writes it. */
export interface AdmissionReview {
  apiVersion: 'admission.k8s.io/v1'
  kind: 'AdmissionReview'
  request?: AdmissionRequest
  response?: AdmissionResponse
}

export interface AdmissionRequest {
  uid: string
  kind: { group: string; version: string; kind: string }
  operation: 'CREATE' | 'UPDATE' | 'DELETE' | 'CONNECT'
  name?: string
  namespace?: string
  subResource?: string
  object?: KubeObject | null
  oldObject?: KubeObject | null
}

export interface AdmissionResponse {
  uid: string
  allowed: boolean
  status?: { code: number; reason: string; message: string }
  warnings?: string[]
  patchType?: 'JSONPatch'
  /** JSON Patch (RFC 6902), in base64. */
  patch?: string
}

/** What is said of an object that somebody wants to write. */
export interface Verdict {
  /** Why it is refused. Absent: it is not. */
  refused?: string
  /** What its writer is told beside. */
  warnings: string[]
  /** It rests on other objects, which may have been written a moment ago. */
  lacking?: true
}

export const accepted: Verdict = { warnings: [] }
