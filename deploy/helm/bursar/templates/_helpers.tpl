{{/* Names. A StatefulSet's name goes with a dash and ten digits into a label of 63 characters. */}}
{{- define "bursar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "bursar.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "bursar.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "bursar.selectorLabels" -}}
app.kubernetes.io/name: {{ include "bursar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "bursar.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "bursar.selectorLabels" . }}
app.kubernetes.io/version: {{ regexReplaceAll "@.*" (default .Chart.AppVersion .Values.image.tag) "" | trunc 63 | trimSuffix "-" | trimSuffix "." | trimSuffix "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* metadata of an object: (dict "root" $ "suffix" "-admin"), or a `name`, with `labels` and `annotations` */}}
{{- define "bursar.metadata" -}}
{{- $root := .root -}}
name: {{ default (printf "%s%s" (include "bursar.fullname" $root) (default "" .suffix)) .name }}
namespace: {{ include "bursar.namespace" $root }}
labels:
  {{- merge dict (default dict .labels) (default dict $root.Values.commonLabels) (include "bursar.labels" $root | fromYaml) | toYaml | nindent 2 }}
{{- with merge dict (default dict .annotations) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "bursar.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "bursar.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "bursar.image" -}}
{{- $image := .Values.image -}}
{{- with dig "imageRegistry" "" (default dict .Values.global) }}{{ . }}/{{ end -}}
{{- $image.repository -}}
{{- if or $image.tag (not $image.digest) }}:{{ default .Chart.AppVersion $image.tag }}{{ end -}}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{/* The chart's own, and those of all charts that it is installed with. */}}
{{- define "bursar.imagePullSecrets" -}}
{{- range concat (default list .Values.imagePullSecrets) (dig "imagePullSecrets" list (default dict .Values.global)) }}
- name: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ .name }}{{ end }}
{{- end }}
{{- end -}}

{{- define "bursar.isSidecar" -}}
{{- if eq .Values.topology "sidecar" }}true{{ end -}}
{{- end -}}

{{/* Whether the pods are this chart's. */}}
{{- define "bursar.hasPods" -}}
{{- if or (eq .Values.topology "gateway") .Values.application.containers }}true{{ end -}}
{{- end -}}

{{- define "bursar.kind" -}}
{{- ternary "StatefulSet" "Deployment" .Values.journal.enabled -}}
{{- end -}}

{{/* A duration as Bursar and Prometheus read it, in milliseconds: (list key text). */}}
{{- define "bursar.milliseconds" -}}
{{- $key := index . 0 -}}
{{- $text := index . 1 | toString -}}
{{- if not (regexMatch "^ *([0-9]+ *[a-z]+ *)+$" $text) -}}
{{- fail (printf "%s: %q is not a duration such as 250ms, 60s or 5m" $key $text) -}}
{{- end -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+ *[a-z]+" $text -1 -}}
{{- $number := regexFind "[0-9]+" . | int64 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $factor := 0 -}}
{{- if has $unit (list "ms" "msec" "millis") -}}{{- $factor = 1 -}}
{{- else if has $unit (list "s" "sec" "secs" "second" "seconds") -}}{{- $factor = 1000 -}}
{{- else if has $unit (list "m" "min" "mins" "minute" "minutes") -}}{{- $factor = 60000 -}}
{{- else if has $unit (list "h" "hr" "hrs" "hour" "hours") -}}{{- $factor = 3600000 -}}
{{- else -}}
{{- fail (printf "%s: %q is in a unit other than ms, s, m and h" $key $text) -}}
{{- end -}}
{{- $sum = add $sum (mul $number $factor) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{- define "bursar.drainDelay" -}}
{{- default (ternary "0s" "10s" (eq .Values.topology "sidecar")) (default dict .Values.config).drain_delay -}}
{{- end -}}

{{/* The longest `timeouts.head` of a provider, in milliseconds. */}}
{{- define "bursar.longestHead" -}}
{{- $longest := 60000 -}}
{{- range $name, $provider := (default dict .Values.config).providers -}}
{{- if kindIs "map" $provider -}}
{{- with (default dict $provider.timeouts).head -}}
{{- $longest = max $longest (include "bursar.milliseconds" (list (printf "config.providers.%s.timeouts.head" $name) .) | int64) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $longest -}}
{{- end -}}

{{- define "bursar.drainTimeout" -}}
{{- $seconds := div (add (include "bursar.longestHead" . | int64) 999) 1000 -}}
{{- default (printf "%ds" (add $seconds 10)) (default dict .Values.config).drain_timeout -}}
{{- end -}}

{{/* Draining takes so many seconds, rounded up, with the application's end before it. */}}
{{- define "bursar.drainSeconds" -}}
{{- $delay := include "bursar.milliseconds" (list "config.drain_delay" (include "bursar.drainDelay" .)) | int64 -}}
{{- $timeout := include "bursar.milliseconds" (list "config.drain_timeout" (include "bursar.drainTimeout" .)) | int64 -}}
{{- $seconds := div (add $delay $timeout 999) 1000 -}}
{{- if include "bursar.isSidecar" . -}}
{{- $seconds = add $seconds .Values.application.terminationSeconds -}}
{{- end -}}
{{- $seconds -}}
{{- end -}}

{{- define "bursar.gracePeriod" -}}
{{- $drain := include "bursar.drainSeconds" . | int64 -}}
{{- $set := .Values.terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $set -}}
{{- add $drain 10 -}}
{{- else if le ($set | int64) $drain -}}
{{- fail (printf "terminationGracePeriodSeconds: %d is too short: draining takes up to %d seconds (drain_delay, drain_timeout%s), and what is cut off then is a payment in doubt; leave it out, or set more" ($set | int64) $drain (ternary ", application.terminationSeconds" "" (eq .Values.topology "sidecar"))) -}}
{{- else -}}
{{- $set | int64 -}}
{{- end -}}
{{- end -}}

{{/* A size as Kubernetes or Bursar writes it, in bytes; nothing where it is written otherwise. */}}
{{- define "bursar.bytes" -}}
{{- $text := toString . -}}
{{- $units := dict "" 1 "k" 1000 "K" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" $text -}}
{{- $unit := trimPrefix $number $text | trim | trimSuffix "B" -}}
{{- if and $number (hasKey $units $unit) -}}
{{- mulf (float64 $number) (get $units $unit) | int64 -}}
{{- end -}}
{{- end -}}

{{/* So many of the replicas, rounded up: (list number-or-percentage replicas). */}}
{{- define "bursar.portion" -}}
{{- $of := index . 0 -}}
{{- if kindIs "string" $of -}}
{{- div (add (mul (trimSuffix "%" $of | int64) (index . 1)) 99) 100 -}}
{{- else -}}
{{- int64 $of -}}
{{- end -}}
{{- end -}}

{{/* How many replicas there are at least. */}}
{{- define "bursar.minimum" -}}
{{- ternary .Values.autoscaling.minReplicas .Values.replicaCount .Values.autoscaling.enabled | int64 -}}
{{- end -}}

{{/* Not the selector's, or the pod of the test would be sent requests. */}}
{{- define "bursar.testLabels" -}}
app.kubernetes.io/name: {{ include "bursar.name" . }}-test
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
