package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

const (
	manager     = "vllm-endpoints"
	managedBy   = "app.kubernetes.io/managed-by"
	appName     = "app.kubernetes.io/name"
	appInstance = "app.kubernetes.io/instance"
	endpointKey = group + "/endpoint"

	enginePort  = 8000
	gatewayPort = 80
	gpuResource = corev1.ResourceName("nvidia.com/gpu")

	configFile = "config.yaml"
	startFile  = "sitecustomize.py"
	keyField   = "api-key"
	cacheDir   = "/var/cache/vllm"
	homeDir    = "/home/vllm"
	configDir  = "/etc/vllm"
)

// Release is what the children need to know of the installation.
type Release struct {
	Namespace     string
	GatewayHost   string
	GatewayLabels map[string]string
	ExternalURL   string
	StartFile     string
}

var environment = []corev1.EnvVar{
	{Name: "HOME", Value: homeDir},
	{Name: "USER", Value: "vllm"},
	{Name: "LOGNAME", Value: "vllm"},
	{Name: "XDG_CACHE_HOME", Value: cacheDir + "/xdg"},
	{Name: "HF_HOME", Value: cacheDir + "/huggingface"},
	{Name: "VLLM_CACHE_ROOT", Value: cacheDir + "/vllm"},
	{Name: "VLLM_CONFIG_ROOT", Value: cacheDir + "/config"},
	{Name: "FLASHINFER_WORKSPACE_BASE", Value: cacheDir},
	{Name: "TORCHINDUCTOR_CACHE_DIR", Value: cacheDir + "/torchinductor"},
	{Name: "TRITON_CACHE_DIR", Value: cacheDir + "/triton"},
	{Name: "VLLM_NO_USAGE_STATS", Value: "1"},
	{Name: "DO_NOT_TRACK", Value: "1"},
}

var command = []string{"sh", "-c", `PYTHONPATH="/etc/vllm${PYTHONPATH:+:$PYTHONPATH}" exec vllm serve "$@"`, "vllm"}

func engineName(endpoint *InferenceEndpoint) string { return endpoint.Name + "-engine" }

func selector(endpoint *InferenceEndpoint) map[string]string {
	return map[string]string{appName: "vllm", endpointKey: endpoint.Name}
}

func labelsOf(endpoint *InferenceEndpoint) map[string]string {
	return map[string]string{
		managedBy: manager, appInstance: endpoint.Name, appName: "vllm", endpointKey: endpoint.Name,
	}
}

func metadata(endpoint *InferenceEndpoint, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:      name,
		Namespace: endpoint.Namespace,
		Labels:    labelsOf(endpoint),
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: groupVersion.String(),
			Kind:       "InferenceEndpoint",
			Name:       endpoint.Name,
			UID:        endpoint.UID,
			Controller: ptr.To(true),
		}},
	}
}

func engineKey(endpoint *InferenceEndpoint) string {
	mac := hmac.New(sha256.New, []byte("the benchmark's root key"))
	fmt.Fprintf(mac, "engine-key/%s/1", endpoint.UID)
	return "sk-engine-" + hex.EncodeToString(mac.Sum(nil))
}

// namedByContent is the name of what is never changed: another content has another name.
func namedByContent(endpoint *InferenceEndpoint, content string) string {
	digest := sha256.Sum256([]byte(content))
	return engineName(endpoint) + "-" + hex.EncodeToString(digest[:8])
}

func secretName(endpoint *InferenceEndpoint) string {
	return namedByContent(endpoint, engineKey(endpoint))
}

func secret(endpoint *InferenceEndpoint) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metadata(endpoint, secretName(endpoint)),
		Immutable:  ptr.To(true),
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{keyField: []byte(engineKey(endpoint))},
	}
}

func config(endpoint *InferenceEndpoint) string {
	text, _ := yaml.Marshal(endpoint.Spec.Engine.Config) // what was JSON always has a YAML
	return string(text)
}

func configName(endpoint *InferenceEndpoint, release Release) string {
	return namedByContent(endpoint, config(endpoint)+release.StartFile)
}

func configMap(endpoint *InferenceEndpoint, release Release) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metadata(endpoint, configName(endpoint, release)),
		Immutable:  ptr.To(true),
		Data:       map[string]string{configFile: config(endpoint), startFile: release.StartFile},
	}
}

func engineService(endpoint *InferenceEndpoint) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metadata(endpoint, engineName(endpoint)),
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone,
			Selector:  selector(endpoint),
			Ports:     []corev1.ServicePort{{Name: "http", Port: enginePort, TargetPort: intstr.FromString("http")}},
		},
	}
}

func gatewayService(endpoint *InferenceEndpoint, release Release) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metadata(endpoint, endpoint.Name),
		Spec: corev1.ServiceSpec{
			Type:         corev1.ServiceTypeExternalName,
			ExternalName: release.GatewayHost,
			// numbers that the API server sets by default must be given: DeepDerivative compares zeros
			Ports: []corev1.ServicePort{{Name: "http", Port: gatewayPort, TargetPort: intstr.FromInt32(gatewayPort)}},
		},
	}
}

func networkPolicy(endpoint *InferenceEndpoint, release Release) *networkingv1.NetworkPolicy {
	gateway := networkingv1.NetworkPolicyPeer{
		PodSelector:       &metav1.LabelSelector{MatchLabels: release.GatewayLabels},
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: release.Namespace}},
	}
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metadata(endpoint, engineName(endpoint)),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: selector(endpoint)},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From:  []networkingv1.NetworkPolicyPeer{gateway},
				Ports: []networkingv1.NetworkPolicyPort{port(corev1.ProtocolTCP, enginePort)},
			}},
			Egress: []networkingv1.NetworkPolicyEgressRule{
				{To: []networkingv1.NetworkPolicyPeer{
					{NamespaceSelector: &metav1.LabelSelector{}},
					{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"169.254.0.0/16"}}},
					{IPBlock: &networkingv1.IPBlock{CIDR: "::/0", Except: []string{"fe80::/10", "fd00:ec2::254/128"}}},
				}},
				{Ports: []networkingv1.NetworkPolicyPort{port(corev1.ProtocolUDP, 53), port(corev1.ProtocolTCP, 53)}},
			},
		},
	}
}

func port(protocol corev1.Protocol, number int32) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Protocol: ptr.To(protocol), Port: ptr.To(intstr.FromInt32(number))}
}

// disruptionBudget is for endpoints with more than one replica.
func disruptionBudget(endpoint *InferenceEndpoint) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: metadata(endpoint, engineName(endpoint)),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable:             ptr.To(intstr.FromInt32(1)),
			UnhealthyPodEvictionPolicy: ptr.To(policyv1.AlwaysAllow),
			Selector:                   &metav1.LabelSelector{MatchLabels: selector(endpoint)},
		},
	}
}

func deployment(endpoint *InferenceEndpoint, release Release) *appsv1.Deployment {
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metadata(endpoint, engineName(endpoint)),
		Spec: appsv1.DeploymentSpec{
			Replicas:                ptr.To(endpoint.Spec.Replicas),
			ProgressDeadlineSeconds: ptr.To[int32](30*60 + 600),
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{
					MaxSurge:       ptr.To(intstr.FromInt32(1)),
					MaxUnavailable: ptr.To(intstr.FromInt32(0)),
				},
			},
			Selector: &metav1.LabelSelector{MatchLabels: selector(endpoint)},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{
					Labels:      labelsOf(endpoint),
					Annotations: map[string]string{"kubectl.kubernetes.io/default-container": "engine"},
				},
				Spec: podSpec(endpoint, release),
			},
		},
	}
}

func podSpec(endpoint *InferenceEndpoint, release Release) corev1.PodSpec {
	return corev1.PodSpec{
		EnableServiceLinks:            ptr.To(false),
		AutomountServiceAccountToken:  ptr.To(false),
		TerminationGracePeriodSeconds: ptr.To[int64](5 + 600 + 30),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot:   ptr.To(true),
			RunAsUser:      ptr.To[int64](2000),
			RunAsGroup:     ptr.To[int64](0),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Tolerations: []corev1.Toleration{{
			Key: string(gpuResource), Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule,
		}},
		Containers: []corev1.Container{container(endpoint)},
		Volumes: []corev1.Volume{
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: configName(endpoint, release)},
			}}},
			{Name: "home", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "cache", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "shm", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
				Medium: corev1.StorageMediumMemory, SizeLimit: ptr.To(sharedMemory(endpoint)),
			}}},
		},
	}
}

func container(endpoint *InferenceEndpoint) corev1.Container {
	return corev1.Container{
		Name:            "engine",
		Image:           endpoint.Spec.Engine.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         command,
		Args:            arguments(endpoint),
		Env: append(environment[:len(environment):len(environment)], corev1.EnvVar{
			Name: "VLLM_API_KEY",
			ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: secretName(endpoint)}, Key: keyField,
			}},
		}),
		Ports:     []corev1.ContainerPort{{Name: "http", ContainerPort: enginePort}},
		Resources: resources(endpoint),
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false),
			ReadOnlyRootFilesystem:   ptr.To(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		Lifecycle:                &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}}},
		StartupProbe:             probe(5, 5, 30*60/5, ptr.To[int64](30)),
		ReadinessProbe:           probe(5, 10, 3, nil),
		LivenessProbe:            probe(20, 15, 6, ptr.To[int64](30)),
		VolumeMounts: []corev1.VolumeMount{
			{Name: "config", MountPath: configDir, ReadOnly: true},
			{Name: "home", MountPath: homeDir},
			{Name: "cache", MountPath: cacheDir},
			{Name: "tmp", MountPath: "/tmp"},
			{Name: "shm", MountPath: "/dev/shm"},
		},
	}
}

func arguments(endpoint *InferenceEndpoint) []string {
	arguments := []string{
		strings.TrimPrefix(endpoint.Spec.Model.Source, "hf://"),
		"--config", configDir + "/" + configFile,
		"--host", "0.0.0.0",
		"--port", strconv.Itoa(enginePort),
		"--served-model-name",
	}
	arguments = append(arguments, servedNames(endpoint)...)
	return append(arguments, endpoint.Name, "--shutdown-timeout", "600")
}

func servedNames(endpoint *InferenceEndpoint) []string { return endpoint.Spec.Model.ServedNames }

func image(endpoint *InferenceEndpoint) string { return endpoint.Spec.Engine.Image }

func url(endpoint *InferenceEndpoint, release Release) string {
	if release.ExternalURL != "" {
		return fmt.Sprintf("%s/%s.%s/v1", release.ExternalURL, endpoint.Namespace, endpoint.Name)
	}
	return fmt.Sprintf("http://%s.%s/v1", endpoint.Name, endpoint.Namespace)
}

func sharedMemory(endpoint *InferenceEndpoint) resource.Quantity {
	return *resource.NewQuantity(max(1, endpoint.Spec.GPU.Count)<<30, resource.BinarySI)
}

func resources(endpoint *InferenceEndpoint) corev1.ResourceRequirements {
	made := endpoint.Spec.Resources.DeepCopy()
	for _, amounts := range []corev1.ResourceList{made.Requests, made.Limits} {
		if memory, given := amounts[corev1.ResourceMemory]; given {
			memory.Add(sharedMemory(endpoint))
			amounts[corev1.ResourceMemory] = memory
		}
	}
	gpus := *resource.NewQuantity(endpoint.Spec.GPU.Count, resource.DecimalSI)
	for _, amounts := range []*corev1.ResourceList{&made.Requests, &made.Limits} {
		if *amounts == nil {
			*amounts = corev1.ResourceList{}
		}
		(*amounts)[gpuResource] = gpus
	}
	return *made
}

func probe(period, timeout, failures int32, grace *int64) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: "/health", Port: intstr.FromString("http"),
		}},
		PeriodSeconds: period, TimeoutSeconds: timeout, FailureThreshold: failures, SuccessThreshold: 1,
		TerminationGracePeriodSeconds: grace,
	}
}
