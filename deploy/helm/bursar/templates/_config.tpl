{{/* proxy.yaml, from `config` and what is the chart's. */}}
{{- define "bursar.config" -}}
{{- $own := omit .Values.config "admin_hosts" "drain_delay" "drain_timeout" "journal" -}}
{{- $host := ternary "127.0.0.1" .Values.bind (eq .Values.topology "sidecar") -}}
listen: {{ printf "%s:%d" $host (int .Values.ports.proxy) | quote }}
admin: {{ printf "%s:%d" .Values.bind (int .Values.ports.admin) | quote }}
{{- with include "bursar.adminHosts" . | trim }}
admin_hosts:
  {{- . | nindent 2 }}
{{- end }}
drain_delay: {{ include "bursar.drainDelay" . }}
drain_timeout: {{ include "bursar.drainTimeout" . }}
{{- if .Values.journal.enabled }}
journal:
  path: /var/lib/bursar
  {{- with .Values.config.journal }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- if .Values.fleet.enabled }}
fleet:
  {{- include "bursar.fleet" . | nindent 2 }}
{{- end }}
{{- if not (or $own.providers $own.callers) }}
{{- if not (include "bursar.isSidecar" .) }}
# An example: there are no `config.callers` and no `config.providers` in the values.
callers:
  port-forward:
    addresses: [127.0.0.1, "::1"]
    allow: [payu]
{{- else }}
# An example: there are no `config.providers` in the values.
{{- end }}
providers:
  payu:
    preset: payu
    environment: sandbox
    client_id: ${PAYU_CLIENT_ID:-not-configured}
    client_secret: ${PAYU_CLIENT_SECRET:-not-configured}
{{- end }}
{{- with $own }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The names that the cluster has for the admin port, and those of the values. */}}
{{- define "bursar.adminHosts" -}}
{{- if and .Values.adminService.enabled (include "bursar.hasPods" .) -}}
{{- $name := printf "%s-admin" (include "bursar.fullname" .) -}}
{{- $namespace := include "bursar.namespace" . -}}
- {{ $name }}
- {{ $name }}.{{ $namespace }}
- {{ $name }}.{{ $namespace }}.svc
- {{ $name }}.{{ $namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}
{{- range .Values.config.admin_hosts }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "bursar.fleet" -}}
{{- with .Values.fleet -}}
{{- if .sentinel -}}
sentinel:
  {{- toYaml .sentinel | nindent 2 }}
{{- else if .cluster -}}
cluster:
  {{- toYaml .cluster | nindent 2 }}
{{- else -}}
url: {{ .url | quote }}
{{- end }}
keys:
  {{- range .keys }}
  - {{ printf "${file:/run/secrets/fleet/%s}" . | quote }}
  {{- end }}
name: {{ .name | quote }}
{{- with .ca }}
tls:
  ca: {{ printf "/run/secrets/fleet/%s" . | quote }}
{{- end }}
{{- with .onOutage }}
on_outage: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What no schema can say. */}}
{{- define "bursar.validate" -}}
{{- $values := .Values -}}
{{- $config := $values.config -}}
{{- $gateway := eq $values.topology "gateway" -}}
{{- range $key, $instead := dict "listen" "ports.proxy and bind" "admin" "ports.admin and bind" "fleet" "fleet" -}}
{{- if hasKey $config $key -}}
{{- fail (printf "config.%s is the chart's: set %s" $key $instead) -}}
{{- end -}}
{{- end -}}
{{- if $values.existingConfigMap.name -}}
{{- with keys (omit $config "drain_delay" "drain_timeout") | sortAlpha -}}
{{- fail (printf "config: %s: with existingConfigMap.name only drain_delay and drain_timeout go here, as that file has them" (join ", " .)) -}}
{{- end -}}
{{- else -}}
{{- if and $config.callers (not $config.providers) -}}
{{- fail "config.providers: name at least one" -}}
{{- end -}}
{{- if and $gateway $config.providers (not (hasKey $config "callers")) -}}
{{- fail "config.callers: say who may send requests; whoever reaches the port can spend the merchant's money otherwise" -}}
{{- end -}}
{{- if and $config.journal (not $values.journal.enabled) -}}
{{- fail "config.journal needs journal.enabled=true: a journal is one for each pod, on a volume of its own" -}}
{{- end -}}
{{- if hasKey (default dict $config.journal) "path" -}}
{{- fail "config.journal.path is the chart's: /var/lib/bursar" -}}
{{- end -}}
{{- end -}}
{{- if and $values.journal.existingClaim (or $values.autoscaling.enabled (gt (int $values.replicaCount) 1)) -}}
{{- fail "journal.existingClaim is the journal of one pod: set replicaCount=1 without autoscaling, or leave it out and each pod gets a claim of its own" -}}
{{- end -}}
{{- if and $values.journal.enabled (or (eq "Recreate" (default "" $values.updateStrategy.type)) (hasKey (default dict $values.updateStrategy.rollingUpdate) "maxSurge")) -}}
{{- fail "updateStrategy: with a journal it is a StatefulSet's, which has neither Recreate nor maxSurge" -}}
{{- end -}}
{{- if and (not (empty $values.fleet.sentinel)) (not (empty $values.fleet.cluster)) -}}
{{- fail "fleet: sentinel and cluster: exactly one says where the store is" -}}
{{- end -}}
{{- $mounts := ternary (list "fleet") list $values.fleet.enabled -}}
{{- range $values.secrets -}}
{{- $mount := default .name .mount -}}
{{- if has $mount $mounts -}}
{{- fail (printf "secrets: two are mounted at /run/secrets/%s" $mount) -}}
{{- end -}}
{{- $mounts = append $mounts $mount -}}
{{- end -}}
{{- with $values.podDisruptionBudget -}}
{{- if and .enabled (not (kindIs "invalid" .minAvailable)) (not (kindIs "invalid" .maxUnavailable)) -}}
{{- fail "podDisruptionBudget: minAvailable or maxUnavailable, not both" -}}
{{- end -}}
{{- end -}}
{{- with $values.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail "autoscaling: minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- if and .enabled .targetCPUUtilizationPercentage (not (dig "requests" "cpu" "" $values.resources)) -}}
{{- fail "autoscaling.targetCPUUtilizationPercentage needs resources.requests.cpu: it is a percentage of that" -}}
{{- end -}}
{{- end -}}
{{- if $gateway -}}
{{- if $values.application.containers -}}
{{- fail "application.containers needs topology=sidecar" -}}
{{- end -}}
{{- else -}}
{{- if $values.networkPolicy.enabled -}}
{{- fail "networkPolicy: a sidecar's pod is the application's; put a policy for that into extraManifests" -}}
{{- end -}}
{{- end -}}
{{- end -}}
