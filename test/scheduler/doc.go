// Package scheduler checks the capacity that the product counts against the
// kube-scheduler's own code, in process, over random clusters. It is a module of its
// own, as it compiles parts of Kubernetes.
package scheduler
