{{/* Labels of everything; the argument is a dict of root and component. */}}
{{- define "polynet.labels" -}}
app.kubernetes.io/name: polynet
app.kubernetes.io/part-of: polynet
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* What selects the pods of a component; never changes. */}}
{{- define "polynet.selector" -}}
app.kubernetes.io/name: polynet
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "polynet.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{ .Values.image.repository }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag }}
{{- end }}

{{/* Where a program's probes listen: the argument is a dict of root and port. */}}
{{- define "polynet.probes" -}}
{{ ternary "$(POD_IP)" "127.0.0.1" .root.Values.metrics.enabled }}:{{ .port }}
{{- end }}

{{/* Probes of a container in the node's network. */}}
{{- define "polynet.probing" -}}
{{- $get := dict "port" .port }}
{{- if not .root.Values.metrics.enabled }}{{ $_ := set $get "host" "127.0.0.1" }}{{ end }}
livenessProbe:
  httpGet: {{ merge (dict "path" "/healthz") $get | toJson }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {{ merge (dict "path" "/readyz") $get | toJson }}
  periodSeconds: {{ .readyEvery | default 5 }}
  timeoutSeconds: 5
{{- end }}

{{- define "polynet.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- with .Values.api.host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ $.Values.api.port | default "6443" | quote }}
{{- end }}
{{- end }}

{{/* Pods of programs for the whole cluster: in the nodes' network, since no other has to be there yet. */}}
{{- define "polynet.clusterWide" -}}
serviceAccountName: polynet-{{ .component }}
priorityClassName: system-cluster-critical
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
nodeSelector: {{ merge (dict "kubernetes.io/os" "linux") .nodeSelector | toJson }}
# A node is not ready before its pods have a network, which these programs help to.
tolerations:
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoSchedule}
  - {key: node.kubernetes.io/network-unavailable, operator: Exists, effect: NoSchedule}
  - {key: node.cloudprovider.kubernetes.io/uninitialized, operator: Exists, effect: NoSchedule}
  - {key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 60}
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 60}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "polynet.selector" . | nindent 14 }}
      - weight: 50
        podAffinityTerm:
          topologyKey: topology.kubernetes.io/zone
          labelSelector:
            matchLabels: {{- include "polynet.selector" . | nindent 14 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "polynet.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Those that a Deployment's upgrade may do without: it listens on the node, so the next one waits for its place. */}}
{{- define "polynet.rolling" -}}
type: RollingUpdate
rollingUpdate: {maxSurge: 0, maxUnavailable: 1}
{{- end }}

{{/* What helm makes before it deletes a release, lowest weight first: the argument is the weight. */}}
{{- define "polynet.beforeRemoval" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
