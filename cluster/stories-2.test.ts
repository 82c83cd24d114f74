import { playStories } from './stories.ts'

playStories(2, 2)
