import { playStories } from './stories.ts'

playStories(1, 2)
