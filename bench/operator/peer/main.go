// The peer of the benchmark: an operator as an experienced Go developer writes it, with
// controller-runtime, typed objects and cached reads, for the same endpoints and the same children
// as ours. It knows the fields that the benchmark uses; it neither validates nor diagnoses.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

const workers = 8

func main() {
	ctrl.SetLogger(zap.New())
	if err := run(); err != nil {
		ctrl.Log.Error(err, "the peer ends")
		os.Exit(1)
	}
}

func run() error {
	manager, err := ctrl.NewManager(ctrl.GetConfigOrDie(), options())
	if err != nil {
		return err
	}
	release, err := readRelease()
	if err != nil {
		return err
	}
	err = ctrl.NewControllerManagedBy(manager).
		// our own status writes are no news
		For(&InferenceEndpoint{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&appsv1.Deployment{}).
		Owns(&corev1.Service{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&corev1.Secret{}).
		Owns(&networkingv1.NetworkPolicy{}).
		Owns(&policyv1.PodDisruptionBudget{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(&Reconciler{Client: manager.GetClient(), Release: release})
	if err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}

// readRelease reads the settings that the chart gives to our operator, and the file that every
// engine gets, whose path is the one argument.
func readRelease() (Release, error) {
	setting := func(name string) string { return os.Getenv("VLLM_ENDPOINTS_" + name) }
	release := Release{Namespace: setting("RELEASE_NAMESPACE"), ExternalURL: setting("EXTERNAL_URL")}
	release.GatewayHost = fmt.Sprintf("%s.%s.svc.%s", setting("GATEWAY_SERVICE"), release.Namespace, setting("CLUSTER_DOMAIN"))
	if err := json.Unmarshal([]byte(setting("GATEWAY_LABELS")), &release.GatewayLabels); err != nil {
		return release, err
	}
	text, err := os.ReadFile(os.Args[1])
	release.StartFile = string(text)
	return release, err
}

func options() ctrl.Options {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(addToScheme(scheme))
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{managedBy: manager})}
	return ctrl.Options{
		Scheme:  scheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{
				&appsv1.Deployment{}: ours,
				&corev1.Service{}:    ours,
				&corev1.ConfigMap{}:  ours,
				&corev1.Secret{}:     ours,

				&networkingv1.NetworkPolicy{}:   ours,
				&policyv1.PodDisruptionBudget{}: ours,
			},
		},
		Client: client.Options{
			// a child that was just made is in the cache when it is looked for again
			Cache: &client.CacheOptions{EnableReadYourWritesConsistency: ptr.To(true)},
		},
	}
}
