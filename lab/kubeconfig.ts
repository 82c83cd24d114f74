/** A kubeconfig for one user of one cluster, whose name is `name`. `certificate` is what the server is known by. */
export const kubeconfigText = (options: {
  name: string
  server: string
  certificate: string
  token: string
}): string => `apiVersion: v1
kind: Config
clusters:
  - name: ${options.name}
    cluster:
      server: ${options.server}
      certificate-authority-data: ${Buffer.from(options.certificate).toString('base64')}
contexts:
  - name: ${options.name}
    context:
      cluster: ${options.name}
      user: ${options.name}
      namespace: default
current-context: ${options.name}
users:
  - name: ${options.name}
    user:
      token: ${options.token}
`
