{{/* proxy.yaml, from `config` and what is the chart's. */}}
{{- define "bursar.config" -}}
{{- $own := omit (default dict .Values.config) "admin_hosts" "drain_delay" "drain_timeout" "journal" -}}
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
  {{- with (default dict .Values.config).journal }}
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
{{- range (default dict .Values.config).admin_hosts }}
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

{{/* Where the fleet's store listens: the ports of its URLs, with Redis' own where they have none. Behind Sentinel any port may
be a store's, and Redis' own is. */}}
{{- define "bursar.storePorts" -}}
{{- $fleet := .Values.fleet -}}
{{- $own := "6379" -}}
{{- $urls := list $fleet.url -}}
{{- $ports := list -}}
{{- if $fleet.sentinel -}}
{{- $ports = list $own -}}
{{- $own = "26379" -}}
{{- $urls = default list $fleet.sentinel.urls -}}
{{- else if $fleet.cluster -}}
{{- $urls = $fleet.cluster -}}
{{- end -}}
{{- range $urls -}}
{{- $port := regexFind ":[0-9]+/?$" (regexReplaceAll "/[0-9]*$" . "") | trimAll ":/" -}}
{{- if and (not $port) (contains "${" (regexReplaceAll ".*@" . "")) (not $.Values.networkPolicy.store.ports) -}}
{{- fail "networkPolicy.store.ports: name them, because the fleet's URL does not say here which it is" -}}
{{- end -}}
{{- $ports = append $ports (default $own $port) -}}
{{- end -}}
{{- range default ($ports | uniq | sortAlpha) .Values.networkPolicy.store.ports }}
- {{ . }}
{{- end -}}
{{- end -}}

{{/* Secrets that stand in the values themselves, passwords in URLs among them, by their paths: (dict "value" … "path" "config").
What `${…}` names is none. */}}
{{- define "bursar.inClear" -}}
{{- $path := .path -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- $here := printf "%s.%s" $path $key -}}
{{- if has $key (list "client_secret" "next_client_secret" "password" "passwords" "admin_token") -}}
{{- range $text := ternary $value (list $value) (kindIs "slice" $value) -}}
{{- if and (kindIs "string" $text) (not (contains "${" $text)) (not (hasPrefix "$" $text)) }}
{{ $here }}
{{- end -}}
{{- end -}}
{{- else -}}
{{- include "bursar.inClear" (dict "value" $value "path" $here) -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $at, $value := .value -}}
{{- include "bursar.inClear" (dict "value" $value "path" (printf "%s[%d]" $path $at)) -}}
{{- end -}}
{{- else if kindIs "string" .value -}}
{{- if regexMatch "://[^/?#]*:[^/?#@]+@" (regexReplaceAll "[$][{][^}]*[}]" .value "") }}
{{ $path }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What of the configuration no reload can change, so that other pods are needed. */}}
{{- define "bursar.fixed" -}}
{{- $config := default dict .Values.config -}}
{{- $limits := pick (default dict $config.limits) "connections" "tunnels" -}}
{{- $journal := ternary (default dict $config.journal) dict .Values.journal.enabled -}}
{{- $fleet := ternary (omit .Values.fleet "keys" "existingSecret") dict .Values.fleet.enabled -}}
{{- dict "bind" .Values.bind "tls" (hasKey $config "tls") "process" $config.process "limits" $limits "journal" $journal "fleet" $fleet | toJson | sha256sum -}}
{{- end -}}

{{/* What no schema can say. */}}
{{- define "bursar.validate" -}}
{{- $values := .Values -}}
{{- $config := default dict $values.config -}}
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
{{- if and $values.journal.enabled (or (eq "Recreate" (default "" (default dict $values.updateStrategy).type)) (hasKey (default dict (default dict $values.updateStrategy).rollingUpdate) "maxSurge")) -}}
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
{{- range $key := list "commonLabels" "podLabels" -}}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" -}}
{{- if hasKey (default dict (index $values $key)) $label -}}
{{- fail (printf "%s: %s is what selects the pods: set nameOverride, or name the release otherwise" $key $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (not $values.journal.enabled) (hasKey (default dict (default dict $values.updateStrategy).rollingUpdate) "partition") -}}
{{- fail "updateStrategy: partition is a StatefulSet's, which needs journal.enabled=true" -}}
{{- end -}}
{{- if and $values.image.digest (contains "@" $values.image.tag) -}}
{{- fail "image.tag has a digest, and image.digest is another one: leave one out" -}}
{{- end -}}
{{- with (default dict $config.journal).max_size -}}
{{- $needed := mul 5 (include "bursar.bytes" . | int64) -}}
{{- $size := include "bursar.bytes" $values.journal.size -}}
{{- if and $size (not $values.journal.existingClaim) (lt (int64 $size) $needed) -}}
{{- fail (printf "journal.size: %s is too small for config.journal.max_size: %v: it may need five times that" $values.journal.size .) -}}
{{- end -}}
{{- end -}}
{{- with (default dict (default dict $values.resources).limits).memory -}}
{{- $replay := default "256MiB" $config.replay_memory -}}
{{- $limit := include "bursar.bytes" . -}}
{{- if and $limit (le (int64 $limit) (include "bursar.bytes" $replay | int64)) -}}
{{- fail (printf "resources.limits.memory: %v is too little for replay_memory %v: what is killed for want of memory leaves payments in doubt" . $replay) -}}
{{- end -}}
{{- end -}}
{{- with $values.podMonitor -}}
{{- if and .enabled (gt (include "bursar.milliseconds" (list "podMonitor.interval" .interval) | int64) 60000) -}}
{{- fail (printf "podMonitor.interval: %s is too long: the alerts need a minute at most" .interval) -}}
{{- end -}}
{{- if and .enabled (gt (include "bursar.milliseconds" (list "podMonitor.scrapeTimeout" .scrapeTimeout) | int64) (include "bursar.milliseconds" (list "podMonitor.interval" .interval) | int64)) -}}
{{- fail "podMonitor.scrapeTimeout is longer than podMonitor.interval: the operator takes no such PodMonitor" -}}
{{- end -}}
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
{{- if not (include "bursar.hasPods" .) -}}
{{- range $key := list "podMonitor" "autoscaling" -}}
{{- if (default dict (index $values $key)).enabled -}}
{{- fail (printf "%s: the pods are another chart's, and so is that" $key) -}}
{{- end -}}
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
