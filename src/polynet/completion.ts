import type { Command } from 'commander'
import { Fault } from '../lib/fault.ts'

/** The script by which a shell completes the program's commands and options. */
export function completionFor(program: Command, shell: string): string {
  const name = program.name()
  const commands = program.commands.map((command) => ({
    name: command.name(),
    text: command.description(),
    options: command.options.map(({ long, description }) => ({ long: long ?? '', text: description })),
    words: command.registeredArguments.flatMap(({ argChoices = [] }) => argChoices),
  }))
  const cases = commands.map(
    (c) => `    ${c.name}) words="${[...c.words, ...c.options.map((o) => o.long)].join(' ')}" ;;`,
  )
  const inBash = [
    `_${name}() {`,
    '  local words',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the shell that reads it
    '  case "${COMP_WORDS[1]}" in',
    ...cases,
    `    *) words="${commands.map((c) => c.name).join(' ')} --version --help" ;;`,
    '  esac',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: as above
    '  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))',
    '}',
    `complete -o default -F _${name} ${name}`,
  ]
  switch (shell) {
    case 'bash':
      return inBash.join('\n')
    case 'zsh':
      return ['autoload -U +X bashcompinit && bashcompinit', ...inBash].join('\n')
    case 'fish':
      return commands
        .flatMap((c) => [
          `complete -c ${name} -n __fish_use_subcommand -f -a ${c.name} -d ${quoted(c.text)}`,
          ...c.words.map(
            (word) => `complete -c ${name} -n '__fish_seen_subcommand_from ${c.name}' -f -a ${word}`,
          ),
          ...c.options.map(
            (o) =>
              `complete -c ${name} -n '__fish_seen_subcommand_from ${c.name}' -l ${o.long.slice(2)} -d ${quoted(o.text)}`,
          ),
        ])
        .join('\n')
    default:
      throw new Fault('invalid', `complete in ${shell}`, 'there are bash, zsh and fish')
  }
}

const quoted = (text: string): string => `'${text.replaceAll("'", "\\'")}'`
