import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Names, outputMatches, parseStory, substituted, wordsOf } from './story.ts'

const page = `# A pod gets an address

<!-- only lab: it looks at the kernel -->
First the network.

\`\`\`yaml
kind: Network
\`\`\`
\`\`\`console
$ kubectl apply -f -
network created
$ kubectl get pods \\
\`\`\`

- In a list:
  \`\`\`console
  $ kubectl apply -f - <<EOF
  kind: Pod
  EOF
  pod created

  \`\`\`
\`\`\`sh
$ not a step
\`\`\`
`

test('a page becomes its title, where it is played, and its steps with what they read and print', () => {
  assert.deepEqual(parseStory(page), {
    title: 'A pod gets an address',
    only: 'lab',
    steps: [
      { line: 10, command: 'kubectl apply -f -', stdin: 'kind: Network', expected: ['network created'] },
      { line: 12, command: 'kubectl get pods \\', expected: [] },
      { line: 17, command: 'kubectl apply -f -', stdin: 'kind: Pod', expected: ['pod created'] },
    ],
  })
})

test('words are split as a shell does', () => {
  assert.deepEqual(wordsOf(`a 'b c' "d \\"e\\"" f\\ g h='i j' ''`), ['a', 'b c', 'd "e"', 'f g', 'h=i j', ''])
})

const cases: [string, string[], string, boolean][] = [
  ['columns may be wider', ['NAME  AGE', 'a  <age>'], 'NAME   AGE\na      12s  ', true],
  ['a missing line is seen', ['a', 'b'], 'a', false],
  ['a line too many is seen', ['a'], 'a\nb', false],
  ['a wildcard is one word', ['<x>'], 'a b', false],
  ['kubectl’s own words are themselves', ['<none>'], 'something', false],
  ['dots are any lines', ['a', '...', 'd'], 'a\nb\nc\nd', true],
  ['dots are no lines too', ['a', '...', 'd'], 'a\nd', true],
  ['a name stands for the same text', ['<IP> <IP>'], '10.1.0.2 10.1.0.3', false],
  ['what a pattern would take literally is literal', ['a.c (1)'], 'abc (1)', false],
]

for (const [title, expected, output, want] of cases)
  test(`expected output: ${title}`, () => assert.equal(outputMatches(expected, output, new Map()), want))

test('a name keeps what it stood for, in later outputs and commands', () => {
  const names: Names = new Map()
  assert.ok(outputMatches(['a <IP-A>', 'b <IP-B>'], 'a 10.1.0.2\nb 10.1.0.3', names))
  assert.equal(substituted('ping <IP-A> <IP-C>', names), 'ping 10.1.0.2 <IP-C>')
  assert.ok(!outputMatches(['<IP-B>'], '10.1.0.2', names))
})
