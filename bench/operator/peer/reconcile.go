package main

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Reconciler brings children and status of an endpoint to what its spec says.
type Reconciler struct {
	client.Client

	Release Release
}

// Reconcile applies what differs and writes the status if that says anything new.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	endpoint := &InferenceEndpoint{}
	if err := r.Get(ctx, request.NamespacedName, endpoint); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !endpoint.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	live := &appsv1.Deployment{}
	for _, child := range []struct{ wanted, live client.Object }{
		{gatewayService(endpoint, r.Release), &corev1.Service{}},
		{engineService(endpoint), &corev1.Service{}},
		{networkPolicy(endpoint, r.Release), &networkingv1.NetworkPolicy{}},
		{secret(endpoint), &corev1.Secret{}},
		{configMap(endpoint, r.Release), &corev1.ConfigMap{}},
		{deployment(endpoint, r.Release), live},
	} {
		if err := r.ensure(ctx, child.wanted, child.live); err != nil {
			return ctrl.Result{}, err
		}
	}
	if err := r.ensureBudget(ctx, endpoint); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.report(ctx, endpoint, live)
}

// ensureBudget makes the budget of several replicas, and takes it away from fewer.
func (r *Reconciler) ensureBudget(ctx context.Context, endpoint *InferenceEndpoint) error {
	wanted, live := disruptionBudget(endpoint), &policyv1.PodDisruptionBudget{}
	if endpoint.Spec.Replicas > 1 {
		return r.ensure(ctx, wanted, live)
	}
	if err := r.Get(ctx, client.ObjectKeyFromObject(wanted), live); err != nil {
		return client.IgnoreNotFound(err)
	}
	return client.IgnoreNotFound(r.Delete(ctx, live))
}

// ensure applies what is wanted where the cached object does not have it already.
func (r *Reconciler) ensure(ctx context.Context, wanted, live client.Object) error {
	err := r.Get(ctx, client.ObjectKeyFromObject(wanted), live)
	if err == nil && covers(live, wanted) {
		return nil
	}
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	//nolint:staticcheck // the typed way, whose answers are protobuf: cheaper than client.Apply's
	return r.Patch(ctx, wanted, client.Apply, client.FieldOwner(manager), client.ForceOwnership)
}

func covers(live, wanted client.Object) bool {
	derives := equality.Semantic.DeepDerivative
	if !derives(wanted.GetLabels(), live.GetLabels()) ||
		!derives(wanted.GetAnnotations(), live.GetAnnotations()) ||
		!derives(wanted.GetOwnerReferences(), live.GetOwnerReferences()) {
		return false
	}
	switch wanted := wanted.(type) {
	case *corev1.Secret:
		return equality.Semantic.DeepEqual(wanted.Data, live.(*corev1.Secret).Data)
	case *corev1.ConfigMap:
		return equality.Semantic.DeepEqual(wanted.Data, live.(*corev1.ConfigMap).Data)
	case *corev1.Service:
		return derives(wanted.Spec, live.(*corev1.Service).Spec)
	case *networkingv1.NetworkPolicy:
		return derives(wanted.Spec, live.(*networkingv1.NetworkPolicy).Spec)
	case *policyv1.PodDisruptionBudget:
		return derives(wanted.Spec, live.(*policyv1.PodDisruptionBudget).Spec)
	case *appsv1.Deployment:
		return derives(wanted.Spec, live.(*appsv1.Deployment).Spec)
	}
	return false
}

func (r *Reconciler) report(ctx context.Context, endpoint *InferenceEndpoint, deployment *appsv1.Deployment) error {
	before := endpoint.DeepCopy()
	status := &endpoint.Status
	status.ObservedGeneration = endpoint.Generation
	status.Phase = "Pending"
	status.URL = url(endpoint, r.Release)
	status.ServedNames = servedNames(endpoint)
	status.EngineNames = servedNames(endpoint)
	status.EngineKeys = []int64{1}
	status.Image = image(endpoint)
	status.Replicas = deployment.Status.Replicas
	status.ReadyReplicas = deployment.Status.ReadyReplicas
	status.Selector = metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: selector(endpoint)})
	for _, condition := range conditions(endpoint, deployment) {
		meta.SetStatusCondition(&status.Conditions, condition)
	}
	if equality.Semantic.DeepEqual(before.Status, *status) {
		return nil
	}
	err := r.Status().Patch(ctx, endpoint, client.MergeFrom(before), client.FieldOwner(manager))
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func conditions(endpoint *InferenceEndpoint, deployment *appsv1.Deployment) []metav1.Condition {
	rollout, wanted := deployment.Status, *deployment.Spec.Replicas
	complete := rollout.ObservedGeneration >= deployment.Generation && rollout.Replicas == wanted &&
		rollout.UpdatedReplicas == wanted && rollout.AvailableReplicas == wanted
	accepted := metav1.Condition{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Valid", Message: "The spec is valid."}
	routed := metav1.Condition{Type: "Routed", Status: metav1.ConditionTrue, Reason: "InCatalog", Message: "The gateway routes every name of the endpoint to it."}
	progressing := metav1.Condition{Type: "Progressing", Status: metav1.ConditionTrue, Reason: "RollingOut",
		Message: fmt.Sprintf("Waiting for %d ready replicas of the current spec.", wanted)}
	if complete {
		progressing = metav1.Condition{Type: "Progressing", Status: metav1.ConditionFalse, Reason: "Complete", Message: "All replicas run the current spec."}
	}
	ready := metav1.Condition{Type: "Ready", Status: metav1.ConditionFalse, Reason: "Starting", Message: "No replica is ready yet."}
	if rollout.ReadyReplicas > 0 {
		ready = metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Serving", Message: "At least one replica answers requests."}
	}
	made := []metav1.Condition{accepted, routed, progressing, ready}
	for i := range made {
		made[i].ObservedGeneration = endpoint.Generation
	}
	return made
}
