{{- define "inference-scaler.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "inference-scaler.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "inference-scaler.labels" -}}
{{ include "inference-scaler.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "inference-scaler.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "inference-scaler.name" .) }}
{{- end }}

{{- define "inference-scaler.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "inference-scaler.tlsSecret" -}}
{{ .Values.tls.secretName | default (printf "%s-tls" (include "inference-scaler.name" .)) }}
{{- end }}

{{- /* What triggers name: KEDA resolves it to all replicas. */}}
{{- define "inference-scaler.address" -}}
{{ include "inference-scaler.name" . }}.{{ .Release.Namespace }}.svc:9090
{{- end }}

{{- /* By what KEDA knows the scaler's CA, and shows a certificate of its own; empty without TLS. */}}
{{- define "inference-scaler.authenticationRef" -}}
{{- if .Values.tls.enabled }}
{{- if .Values.tls.authenticationRef }}{{ toJson .Values.tls.authenticationRef }}
{{- else if and .Values.tls.selfSigned (not .Values.tls.certManager.enabled) }}{{ toJson (dict "name" (include "inference-scaler.name" .)) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The guide's policies, with tolerance 0: the HPA would swallow changes within 10 %. */}}
{{- define "inference-scaler.behavior" -}}
scaleUp:
  tolerance: "0"
  stabilizationWindowSeconds: {{ .scaleUpStabilizationWindowSeconds | default 0 }}
  selectPolicy: Max
  policies:
    - {type: Percent, value: 100, periodSeconds: 15}
    - {type: Pods, value: 2, periodSeconds: 15}
scaleDown:
  tolerance: "0"
  stabilizationWindowSeconds: {{ if hasKey . "scaleDownStabilizationWindowSeconds" }}{{ .scaleDownStabilizationWindowSeconds }}{{ else }}300{{ end }}
  selectPolicy: Min
  policies:
    - {type: Percent, value: 50, periodSeconds: 60}
    - {type: Pods, value: 1, periodSeconds: 60}
{{- end }}
