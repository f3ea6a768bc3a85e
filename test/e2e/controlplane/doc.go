// Package controlplane runs a real Kubernetes control plane with a real KEDA on
// this machine, without containers. It consists of etcd, kube-apiserver,
// kube-controller-manager (with the HPA), kube-scheduler, the KEDA operator and its
// metrics apiserver. Only the kubelets are simulated, by kwok.
//
// [Start] starts the binaries that package build makes, within a sandbox (package
// sandbox), where its fixed ports on loopback are free. Absent: kube-proxy
// (ClusterIPs lead nowhere), exec, logs.
package controlplane
