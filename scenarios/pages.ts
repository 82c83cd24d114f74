import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseStory, type Story } from './story.ts'

const root = join(import.meta.dirname, '..')

export interface Page {
  page: string
  story: Story
}

/** The stories, and every manual page that shows commands, by path from the project's root. */
export const stories: Page[] = ['scenarios', 'docs']
  .flatMap((dir) =>
    readdirSync(join(root, dir), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.md'))
      .map((name) => join(dir, name))
      .sort(),
  )
  .map((page) => ({ page, story: parseStory(readFileSync(join(root, page), 'utf8')) }))
  .filter(({ story }) => story.steps.length > 0)
