import inspector from 'node:inspector'

/**
 * Opens Node's inspector at SIGUSR1 on this machine's loopback, as Node does
 * by itself, but from the event loop: Node's own answer may come while this
 * thread is in a pod's namespace (datapath/linux/netns.ts), where the
 * inspector would then listen, and whoever is in that pod may do anything.
 */
export function openInspectorWhenAsked(port = 9229): void {
  process.on('SIGUSR1', () => {
    if (inspector.url() === undefined) inspector.open(port, '127.0.0.1')
  })
}
