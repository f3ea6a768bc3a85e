// Command kube is etcd, kube-apiserver, kube-controller-manager and
// kube-scheduler in one binary: `kube COMPONENT [FLAGS]`. One binary, for they
// share most of their code and are linked together in a third of the time.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": manager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: kube etcd|kube-apiserver|kube-controller-manager|kube-scheduler [FLAGS]")
		os.Exit(2)
	}
	os.Args = os.Args[1:] // each component looks for its flags behind its name
	if os.Args[0] == "etcd" {
		etcdmain.Main(os.Args)
		return
	}
	component, ok := components[os.Args[0]]
	if !ok {
		fmt.Fprintf(os.Stderr, "kube: no component %q\n", os.Args[0])
		os.Exit(2)
	}
	os.Exit(cli.Run(component()))
}
