{{/* Bursar's container; a sidecar is an init container that goes on running. */}}
{{- define "bursar.container" -}}
name: bursar
image: {{ include "bursar.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [run]
{{- if include "bursar.isSidecar" . }}
restartPolicy: Always
{{- end }}
ports:
  - name: proxy
    containerPort: {{ .Values.ports.proxy }}
  - name: admin
    containerPort: {{ .Values.ports.admin }}
{{- with .Values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: config
    mountPath: /etc/bursar
    readOnly: true
  {{- if .Values.journal.enabled }}
  - name: journal
    mountPath: /var/lib/bursar
  {{- end }}
  {{- if .Values.fleet.enabled }}
  - name: fleet
    mountPath: /run/secrets/fleet
    readOnly: true
  {{- end }}
  {{- range $at, $secret := .Values.secrets }}
  - name: secret-{{ $at }}
    mountPath: /run/secrets/{{ default $secret.name $secret.mount }}
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- range $key := list "startupProbe" "livenessProbe" "readinessProbe" "resources" "securityContext" }}
{{- with index $.Values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Whole directories and no subPath: that is how changes arrive. 0440 and `fsGroup`: readable for Bursar and for nobody else. */}}
{{- define "bursar.volumes" -}}
- name: config
  configMap:
    name: {{ default (include "bursar.fullname" .) .Values.existingConfigMap.name }}
    defaultMode: 0440
    {{- if .Values.existingConfigMap.name }}
    items:
      - key: {{ .Values.existingConfigMap.key }}
        path: proxy.yaml
    {{- end }}
{{- with .Values.journal.existingClaim }}
{{- if $.Values.journal.enabled }}
- name: journal
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- end }}
{{- if .Values.fleet.enabled }}
- name: fleet
  secret:
    secretName: {{ .Values.fleet.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- range $at, $secret := .Values.secrets }}
- name: secret-{{ $at }}
  secret:
    secretName: {{ $secret.name }}
    defaultMode: 0440
    {{- with $secret.items }}
    items:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- if $secret.optional }}
    optional: true
    {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "bursar.spread" -}}
{{- if .Values.topologySpreadConstraints -}}
{{- toYaml .Values.topologySpreadConstraints -}}
{{- else -}}
{{- $revision := ternary "controller-revision-hash" "pod-template-hash" .Values.journal.enabled -}}
{{- range $key, $topology := dict "hosts" "kubernetes.io/hostname" "zones" "topology.kubernetes.io/zone" -}}
{{- with index $.Values.spread $key }}
- maxSkew: 1
  topologyKey: {{ $topology }}
  whenUnsatisfiable: {{ . }}
  labelSelector:
    matchLabels:
      {{- include "bursar.selectorLabels" $ | nindent 6 }}
  matchLabelKeys: [{{ $revision }}]
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "bursar.pod" -}}
{{- $sidecar := include "bursar.isSidecar" . -}}
metadata:
  # Without the chart's version, so that another one alone restarts nothing.
  labels:
    {{- merge dict (include "bursar.selectorLabels" . | fromYaml) (default dict .Values.podLabels) (default dict .Values.commonLabels) | toYaml | nindent 4 }}
  # The checksum is of what no reload can change, and of nothing else: the rest of the configuration is read again.
  annotations:
    {{- $container := ternary .Values.application.containers (list (dict "name" "bursar")) (eq "true" $sidecar) | first }}
    {{- $own := dict "kubectl.kubernetes.io/default-container" $container.name "checksum/needs-restart" (include "bursar.fixed" .) }}
    {{- merge dict (default dict .Values.podAnnotations) $own | toYaml | nindent 4 }}
spec:
  serviceAccountName: {{ include "bursar.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "bursar.gracePeriod" . }}
  {{- with include "bursar.imagePullSecrets" . | trim }}
  imagePullSecrets:
    {{- . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- $context := .Values.podSecurityContext }}
    {{- if $sidecar }}{{ $context = omit $context "runAsNonRoot" "runAsUser" "runAsGroup" }}{{ end }}
    {{- toYaml $context | nindent 4 }}
  {{- if or $sidecar .Values.extraInitContainers }}
  initContainers:
    {{- with .Values.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if $sidecar }}
    - {{ include "bursar.container" . | indent 6 | trim }}
    {{- with .Values.application.initContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- end }}
  {{- end }}
  containers:
    {{- if $sidecar }}
    {{- toYaml .Values.application.containers | nindent 4 }}
    {{- else }}
    - {{ include "bursar.container" . | indent 6 | trim }}
    {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "bursar.volumes" . | nindent 4 }}
    {{- if $sidecar }}
    {{- with .Values.application.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- end }}
  {{- with include "bursar.spread" . | trim }}
  topologySpreadConstraints:
    {{- . | nindent 4 }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "dnsConfig" "hostAliases" }}
  {{- with index $.Values $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- range $key := list "priorityClassName" "runtimeClassName" "schedulerName" "dnsPolicy" }}
  {{- with index $.Values $key }}
  {{ $key }}: {{ . }}
  {{- end }}
  {{- end }}
{{- end -}}
