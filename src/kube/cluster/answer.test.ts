import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AnswerReader } from './answer.ts'

/** What somebody who asked has heard when the bytes come in these pieces. */
function heard(pieces: Buffer[]): string {
  const said: string[] = []
  let body = ''
  const reader = new AnswerReader({
    head: ({ code, headers }) => said.push(`${code} ${headers.get('content-type') ?? '-'}`),
    data: (bytes) => {
      body += bytes.toString()
    },
  })
  try {
    for (const piece of pieces) reader.read(piece)
  } catch (error) {
    return `refused: ${(error as Error).message}`
  }
  const end = reader.reusable ? 'reusable' : reader.endsHere ? 'ends' : 'goes on'
  return [...said, `<${body}>`, end].join(' ')
}

const ok = 'HTTP/1.1 200 OK\r\nContent-Type: json\r\n'

const cases: [answer: string, heard: string][] = [
  [`${ok}Content-Length: 4\r\n\r\nblue`, '200 json <blue> reusable'],
  [`${ok}CONTENT-LENGTH:0\r\n\r\n`, '200 json <> reusable'],
  [`${ok}Content-Length: 9\r\n\r\nblue`, '200 json <blue> goes on'],
  [`${ok}Content-Length: 4\r\nConnection: close\r\n\r\nblue`, '200 json <blue> ends'],
  ['HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nblue', '200 - <blue> ends'],
  [`${ok}Content-Length: 4\r\n\r\nblue!`, '200 json <blue> ends'],
  [`${ok}\r\nblue, red`, '200 json <blue, red> ends'],
  [
    `${ok}Transfer-Encoding: chunked\r\n\r\n4\r\nblue\r\nB;x=y\r\n, red, \r\n\r\n\r\n0\r\n\r\n`,
    '200 json <blue, red, \r\n\r\n> reusable',
  ],
  [`${ok}Transfer-Encoding: chunked\r\n\r\n4\r\nblue\r\n0\r\nWhen: now\r\n\r\n`, '200 json <blue> reusable'],
  [`${ok}Transfer-Encoding: chunked\r\n\r\n4\r\nblue\r\n`, '200 json <blue> goes on'],
  ['HTTP/1.1 204 No Content\r\nContent-Type: json\r\n\r\n', '204 json <> reusable'],
  ['HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n', '404 - <> reusable'],
  ['HTTP/1.1 200 OK\r\nContent-T', '<> goes on'],
  ['HTTP/2 200\r\n\r\n', 'refused: the answer is not HTTP/1.1'],
  ['SSH-2.0-OpenSSH\r\n\r\n', 'refused: the answer is not HTTP/1.1'],
  [`${ok}Content-Length: -1\r\n\r\n`, 'refused: the answer has no length'],
  [`${ok}Transfer-Encoding: chunked\r\n\r\nblue\r\n`, 'refused: a chunk of the answer has no size'],
  [
    `${ok}Transfer-Encoding: chunked\r\n\r\n4\r\nbluered\r\n`,
    'refused: a chunk of the answer is longer than it says',
  ],
  [
    `${ok}Note: ${'x'.repeat(70_000)}`,
    'refused: a line or the headers of the answer are longer than 65536 bytes',
  ],
]

test('an answer is read to its end, however its bytes are cut', () => {
  for (const [answer, expected] of cases) {
    const bytes = Buffer.from(answer)
    assert.equal(heard([bytes]), expected, answer.slice(0, 200))
    if (bytes.length > 1000) continue
    for (let at = 1; at < bytes.length; at++)
      assert.equal(heard([bytes.subarray(0, at), bytes.subarray(at)]), expected, `${answer} cut at ${at}`)
    assert.equal(heard([...bytes].map((byte) => Buffer.from([byte]))), expected, `${answer} byte by byte`)
  }
})
