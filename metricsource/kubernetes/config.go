package kubernetes

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"syscall"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// ErrNoCluster: no kubeconfig is given and this process does not run in a pod.
var ErrNoCluster = errors.New("not in a Kubernetes cluster, and no kubeconfig given")

// Config reads the connection from a kubeconfig file or a list of them, as in KUBECONFIG. If
// the path is empty, it reads it from the pod that this process runs in. The error wraps
// ErrNoCluster outside a pod. It is here because no other package imports client-go.
func Config(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}
		if paths := filepath.SplitList(kubeconfig); len(paths) > 1 { // as KUBECONFIG may be
			rules = &clientcmd.ClientConfigLoadingRules{Precedence: paths}
		}
		cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
		}
		return cfg, nil
	}
	cfg, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, ErrNoCluster
	}
	if err != nil {
		return nil, fmt.Errorf("in-cluster configuration: %w", err)
	}
	return cfg, nil
}

// refuseOpenly hides from client-go that the API server refused the connection of a
// streaming list. client-go would wait for up to a minute, without a log and without
// regard to the context. After an error that it does not recognise, it tries a plain list:
// that failure is logged, and its back-off ends with the context. Watches that resume are
// not affected.
func refuseOpenly(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if errors.Is(err, syscall.ECONNREFUSED) && req.URL.Query().Has("sendInitialEvents") {
			return nil, errors.New(err.Error())
		}
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
