{{/* Names and labels. */}}
{{- define "understudy.name" -}}
{{- .Values.fullnameOverride | default (ternary .Release.Name (printf "%s-understudy" .Release.Name) (contains "understudy" .Release.Name)) | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "understudy.selector" -}}
app.kubernetes.io/name: understudy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "understudy.labels" -}}
{{ include "understudy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "understudy.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "understudy.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* The config that the program reads: the user's, with the places that the chart decides. */}}
{{- define "understudy.config" -}}
{{- $places := dict
      "listen" "0.0.0.0:4000"
      "admin" "127.0.0.1:4001"
      "metrics" "0.0.0.0:4002"
      "data" (required "data is required: where calls are kept, such as s3://bucket/prefix" .Values.data)
      "keys" (dict "dir" "/etc/understudy-keys")
      "capture" (dict "spool" (dict "dir" "/var/lib/understudy/spool"))
      "routes" .Values.routes }}
{{- mergeOverwrite (deepCopy .Values.config) $places | toYaml }}
{{- end }}

{{/* What only a start applies: all but routes, shadow and capture.exclude. A change of it rolls the pods. */}}
{{- define "understudy.startConfig" -}}
{{- $config := deepCopy .Values.config }}
{{- $capture := omit ($config.capture | default dict) "exclude" }}
{{- merge (dict "capture" $capture "data" .Values.data) (omit $config "capture" "shadow") | toYaml }}
{{- end }}
