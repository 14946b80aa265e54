{{/* The pod: the proxy, and the collector as a native sidecar, which is stopped after the proxy. */}}
{{- define "understudy.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "understudy.mounts" -}}
- { name: config, mountPath: /etc/understudy, readOnly: true } # a directory: a file mounted by subPath never changes
- { name: keys, mountPath: /etc/understudy-keys, readOnly: true }
- { name: spool, mountPath: /var/lib/understudy }
- { name: tmp, mountPath: /tmp }
{{- end }}

{{- define "understudy.environment" -}}
{{- range .Values.upstreamKeys }}
- name: {{ .env }}
  valueFrom: { secretKeyRef: { name: {{ .secretName }}, key: {{ .secretKey }} } }
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "understudy.container" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
workingDir: /var/lib/understudy
{{- with include "understudy.environment" . | trim }}
env:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "understudy.containerSecurity" . | nindent 2 }}
volumeMounts:
  {{- include "understudy.mounts" . | nindent 2 }}
{{- end }}

{{- define "understudy.pod" -}}
metadata:
  labels:
    {{- include "understudy.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{- end }}
  annotations:
    understudy/start-config: {{ include "understudy.startConfig" . | sha256sum }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{- end }}
spec:
  serviceAccountName: {{ include "understudy.serviceAccount" . }}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  initContainers:
    - name: collector
      restartPolicy: Always
      args: [collect, --config, /etc/understudy/understudy.yaml, --metrics, "0.0.0.0:4012", --admin, "127.0.0.1:4011"]
      ports:
        - { name: metrics-store, containerPort: 4012 }
      livenessProbe:
        httpGet: { path: /healthz, port: metrics-store }
        periodSeconds: 20
        failureThreshold: 6
      resources:
        {{- toYaml .Values.resources.collector | nindent 8 }}
      {{- include "understudy.container" . | nindent 6 }}
  containers:
    - name: proxy
      args: [serve, --no-collect, --config, /etc/understudy/understudy.yaml]
      ports:
        - { name: llm, containerPort: 4000 }
        - { name: metrics, containerPort: 4002 }
      startupProbe:
        httpGet: { path: /readyz, port: metrics }
        periodSeconds: 1
        failureThreshold: 60
      readinessProbe:
        httpGet: { path: /readyz, port: metrics }
        periodSeconds: 5
      livenessProbe:
        httpGet: { path: /healthz, port: metrics }
        periodSeconds: 10
        failureThreshold: 6
      {{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}
      lifecycle:
        preStop: { sleep: { seconds: 5 } } # until no node sends new connections here
      {{- end }}
      resources:
        {{- toYaml .Values.resources.proxy | nindent 8 }}
      {{- include "understudy.container" . | nindent 6 }}
  volumes:
    - name: config
      configMap: { name: {{ include "understudy.name" . }} }
    - name: keys
      secret:
        secretName: {{ required "keys.existingSecret is required: all replicas must share their keys" .Values.keys.existingSecret }}
        defaultMode: 0440
    - name: tmp
      emptyDir: { sizeLimit: 256Mi }
    {{- if not .Values.spool.persistent }}
    - name: spool
      emptyDir: { sizeLimit: {{ .Values.spool.size }} }
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
