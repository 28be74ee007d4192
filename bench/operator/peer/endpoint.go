package main

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const group = "serving.vllm-endpoints.dev"

var groupVersion = schema.GroupVersion{Group: group, Version: "v1alpha1"}

// InferenceEndpoint has the fields that the benchmark's endpoints use.
type InferenceEndpoint struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   Spec   `json:"spec"`
	Status Status `json:"status,omitempty"`
}

// Spec is what a user wants.
type Spec struct {
	Model     Model                       `json:"model"`
	Engine    Engine                      `json:"engine"`
	GPU       GPU                         `json:"gpu"`
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
	Replicas  int32                       `json:"replicas"`
}

// Model says what is served, and under which names.
type Model struct {
	Source      string   `json:"source"`
	ServedNames []string `json:"servedNames,omitempty"`
}

// Engine says how.
type Engine struct {
	Image  string         `json:"image,omitempty"`
	Config map[string]any `json:"config,omitempty"`
}

// GPU says on what.
type GPU struct {
	Count int64 `json:"count"`
}

// Status is what a controller says.
type Status struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Phase              string             `json:"phase,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
	URL                string             `json:"url,omitempty"`
	ServedNames        []string           `json:"servedNames,omitempty"`
	EngineNames        []string           `json:"engineNames,omitempty"`
	EngineKeys         []int64            `json:"engineKeys,omitempty"`
	Image              string             `json:"image,omitempty"`
	Replicas           int32              `json:"replicas"`
	ReadyReplicas      int32              `json:"readyReplicas"`
	Selector           string             `json:"selector,omitempty"`
}

// InferenceEndpointList is a list of them.
type InferenceEndpointList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []InferenceEndpoint `json:"items"`
}

// DeepCopyInto copies everything.
func (in *InferenceEndpoint) DeepCopyInto(out *InferenceEndpoint) {
	*out = *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Model.ServedNames = slices.Clone(in.Spec.Model.ServedNames)
	out.Spec.Engine.Config = runtime.DeepCopyJSON(in.Spec.Engine.Config)
	in.Spec.Resources.DeepCopyInto(&out.Spec.Resources)
	out.Status.Conditions = slices.Clone(in.Status.Conditions)
	out.Status.ServedNames = slices.Clone(in.Status.ServedNames)
	out.Status.EngineNames = slices.Clone(in.Status.EngineNames)
	out.Status.EngineKeys = slices.Clone(in.Status.EngineKeys)
}

// DeepCopy copies everything.
func (in *InferenceEndpoint) DeepCopy() *InferenceEndpoint {
	out := new(InferenceEndpoint)
	in.DeepCopyInto(out)
	return out
}

// DeepCopyObject copies everything.
func (in *InferenceEndpoint) DeepCopyObject() runtime.Object { return in.DeepCopy() }

// DeepCopyObject copies everything.
func (in *InferenceEndpointList) DeepCopyObject() runtime.Object {
	out := &InferenceEndpointList{TypeMeta: in.TypeMeta, Items: make([]InferenceEndpoint, len(in.Items))}
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range in.Items {
		in.Items[i].DeepCopyInto(&out.Items[i])
	}
	return out
}

func addToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(groupVersion, &InferenceEndpoint{}, &InferenceEndpointList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
	return nil
}
