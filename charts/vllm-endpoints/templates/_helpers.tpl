{{/*
The release's full name: the release's own name where that says what it is. 54 characters leave room for the
longest suffix (-operator, -root-key) and are one more than a release's name may have.
*/}}
{{- define "vllm-endpoints.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 54 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of an object outside namespaces: it names the namespace too, so that equal releases in two of them differ. */}}
{{- define "vllm-endpoints.clusterName" -}}
{{- printf "%s:%s-%s" .root.Release.Namespace (include "vllm-endpoints.fullname" .root) .component -}}
{{- end -}}

{{/* The namespaces to have rights in, with the release's own, as a JSON list; one that is empty stands for all. */}}
{{- define "vllm-endpoints.namespaces" -}}
{{- with .Values.watchNamespaces -}}
{{- append . $.Release.Namespace | uniq | sortAlpha | toJson -}}
{{- else -}}
[""]
{{- end -}}
{{- end -}}

{{- define "vllm-endpoints.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "vllm-endpoints.labels" -}}
{{ include "vllm-endpoints.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The image of a part. No images are published, so the chart can't know where they are. */}}
{{- define "vllm-endpoints.image" -}}
{{- if not .image.repository -}}
{{- fail (printf "set %s.image.repository: no images are published, so build both, push them and set operator.image.repository and gateway.image.repository to where they are (README, step 1)" .component) -}}
{{- end -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) | quote -}}
{{- end -}}

{{/* Where clients outside reach the gateway: the value, else what the Ingress says, else nothing. */}}
{{- define "vllm-endpoints.externalUrl" -}}
{{- with .Values.gateway.externalUrl -}}
{{- if not (regexMatch "^https?://[^/\\s?#]+(/[^/\\s?#]+)*$" .) -}}
{{- fail (printf "gateway.externalUrl is %q: write http(s)://HOST[:PORT][/PATH] without a slash at the end, such as https://llm.example.com" .) -}}
{{- end -}}
{{- . -}}
{{- else -}}
{{- if and .Values.ingress.enabled .Values.ingress.host (not (hasPrefix "*" .Values.ingress.host)) -}}
{{- printf "%s://%s" (ternary "http" "https" (empty .Values.ingress.tls)) .Values.ingress.host -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The hosts by which clients call the gateway itself, separated by commas: no endpoint can have one of them. */}}
{{- define "vllm-endpoints.gatewayHosts" -}}
{{- $hosts := list (urlParse (include "vllm-endpoints.externalUrl" .)).hostname -}}
{{- if and .Values.ingress.enabled .Values.ingress.host (not (hasPrefix "*" .Values.ingress.host)) -}}
{{- $hosts = append $hosts .Values.ingress.host -}}
{{- end -}}
{{- $hosts | compact | uniq | join "," | lower -}}
{{- end -}}

{{/* The default image of engines. Rules with a format are here and not in the schema, whose messages show only a pattern. */}}
{{- define "vllm-endpoints.engineImage" -}}
{{- if not (regexMatch "^[^\\s]+:[^\\s/]+$" .Values.engine.image) -}}
{{- fail (printf "engine.image is %q: an image needs a tag or a digest, such as vllm/vllm-openai:v0.33.0" .Values.engine.image) -}}
{{- end -}}
{{- .Values.engine.image -}}
{{- end -}}

{{/* What both containers may do: nothing beyond their own process (Pod Security "restricted", and a read-only root). */}}
{{- define "vllm-endpoints.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The user is the image's own (a number, so that the kubelet can tell that it is not root). */}}
{{- define "vllm-endpoints.podSecurityContext" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The environment that both parts read: where the release's own Secrets are. */}}
{{- define "vllm-endpoints.commonEnv" -}}
- name: VLLM_ENDPOINTS_RELEASE_NAMESPACE
  value: {{ .Release.Namespace | quote }}
- name: VLLM_ENDPOINTS_KEYRING_SECRET
  value: {{ printf "%s-keyring" (include "vllm-endpoints.fullname" .) | quote }}
- name: VLLM_ENDPOINTS_ROOT_KEY_SECRET
  value: {{ printf "%s-root-key" (include "vllm-endpoints.fullname" .) | quote }}
- name: VLLM_ENDPOINTS_WATCH_NAMESPACES
  value: {{ join "," .Values.watchNamespaces | quote }}
- name: VLLM_ENDPOINTS_LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
{{- end -}}

{{/* nodeSelector, tolerations and affinity of a part, and the Secrets that pull its image. */}}
{{- define "vllm-endpoints.placement" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .part.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
