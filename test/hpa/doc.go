// Package hpa compares the model of the HorizontalPodAutoscaler in scaler/hpa with
// the controller's own code, in process and in virtual time, over random sequences
// of syncs. It is a module of its own, as it compiles parts of Kubernetes.
package hpa
