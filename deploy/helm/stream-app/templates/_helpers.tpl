{{- define "stream-app.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "stream-app.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "stream-app.labels" -}}
{{ include "stream-app.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "stream-app.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* The settings and the files beside them, as a ConfigMap has them. */ -}}
{{- define "stream-app.files" -}}
data:
  stream_app.toml: |
    {{- .Values.settings | trim | nindent 4 }}
  {{- range $name, $text := .Values.data.files }}
  {{ $name }}: |
    {{- $text | nindent 4 }}
  {{- end }}
{{- if .Values.data.example }}
binaryData:
  liver.csv.gz: {{ .Files.Get "files/data/liver.csv.gz" | b64enc }}
{{- end }}
{{- end }}

{{- /* The same as a volume; a dict of `root` and the ConfigMap's `name`. */ -}}
{{- define "stream-app.filesVolume" -}}
name: settings
configMap:
  name: {{ .name }}
  items:
    - {key: stream_app.toml, path: stream_app.toml}
    {{- range $name, $text := .root.Values.data.files }}
    - {key: {{ $name }}, path: data/{{ $name }}}
    {{- end }}
    {{- if .root.Values.data.example }}
    - {key: liver.csv.gz, path: data/liver.csv.gz}
    {{- end }}
{{- end }}

{{- /* What every container sees; a dict of `root` and, where it differs, `env`. */ -}}
{{- define "stream-app.environment" -}}
- name: STREAM_APP_KAFKA__BOOTSTRAP_SERVERS
  value: {{ .root.Values.kafka.bootstrapServers | quote }}
- name: STREAM_APP_LOG__FORMAT
  value: json
- name: STREAM_APP_STORAGE__ROOT
  value: /var/lib/stream_app
- name: STREAM_APP_STORAGE__ARTIFACTS
  value: /models
{{- range $name, $value := merge (dict) (.env | default dict) .root.Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- range $name, $from := .root.Values.secretEnv }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $from.name }}
      key: {{ $from.key }}
{{- end }}
{{- end }}

{{- define "stream-app.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "stream-app.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* The pod of one process; a dict of `root`, `name`, `port`, `resources`, `sharedReadOnly` and `env`. */ -}}
{{- define "stream-app.pod" -}}
metadata:
  labels:
    {{- include "stream-app.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
  annotations:
    # new settings start new pods
    checksum/settings: {{ include "stream-app.files" .root | sha256sum }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .root.Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "stream-app.podSecurity" .root | nindent 4 }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .root.Values.volumes.oneNode }}
  affinity:
    podAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "stream-app.selector" .root | nindent 14 }}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ include "stream-app.image" .root | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [{{ .name }}]
      env:
        {{- include "stream-app.environment" (dict "root" .root "env" .env) | nindent 8 }}
      ports:
        - name: http
          containerPort: {{ .port }}
      startupProbe:
        httpGet: {path: /livez, port: http}
        periodSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
      resources:
        {{- toYaml .resources | nindent 8 }}
      securityContext:
        {{- include "stream-app.containerSecurity" .root | nindent 8 }}
      volumeMounts:
        - {name: settings, mountPath: /etc/stream_app, readOnly: true}
        - {name: data, mountPath: /var/lib/stream_app}
        - {name: models, mountPath: /models, readOnly: {{ .readOnly }}}
        - {name: shared-models, mountPath: /shared-models, readOnly: {{ .readOnly }}}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - {{ include "stream-app.filesVolume" (dict "root" .root "name" (include "stream-app.fullname" .root)) | nindent 6 | trim }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ .root.Values.volumes.data.existingClaim | default (printf "%s-data" (include "stream-app.fullname" .root)) }}
    - name: models
      persistentVolumeClaim:
        claimName: {{ .root.Values.volumes.models.existingClaim | default (printf "%s-models" (include "stream-app.fullname" .root)) }}
    - name: shared-models
      persistentVolumeClaim:
        claimName: {{ .root.Values.volumes.sharedModels.existingClaim | default (printf "%s-shared-models" (include "stream-app.fullname" .root)) }}
    - name: tmp
      emptyDir: {}
{{- end }}

{{- /* A service inside the cluster; a dict of `root`, `name` and `port`. */ -}}
{{- define "stream-app.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "stream-app.fullname" .root }}-{{ .name }}
  labels:
    {{- include "stream-app.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  type: ClusterIP
  selector:
    {{- include "stream-app.selector" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
  ports:
    - name: http
      port: {{ .port }}
      targetPort: http
{{- end }}

{{- /* Evictions take one pod at a time; a dict of `root` and `name`. */ -}}
{{- define "stream-app.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "stream-app.fullname" .root }}-{{ .name }}
  labels:
    {{- include "stream-app.labels" .root | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "stream-app.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- /* One command of the init job; a dict of `root`, `name` and `args`. */ -}}
{{- define "stream-app.initContainer" -}}
name: {{ .name }}
image: {{ include "stream-app.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: {{ .args | toJson }}
env:
  {{- include "stream-app.environment" (dict "root" .root) | nindent 2 }}
resources:
  requests: {cpu: 100m, memory: 256Mi}
  limits: {memory: 512Mi}
securityContext:
  {{- include "stream-app.containerSecurity" .root | nindent 2 }}
volumeMounts:
  - {name: settings, mountPath: /etc/stream_app, readOnly: true}
  - {name: tmp, mountPath: /tmp}
{{- end }}
