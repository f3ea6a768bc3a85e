// Command keda-adapter is KEDA's metrics apiserver, which hands the HPA's
// questions on to the KEDA operator. The stock command also listens at *:8080
// for its own metrics, and its main package offers no way to turn that off. This
// command is made of the same packages and listens at the given address only.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"github.com/kedacore/keda/v2/pkg/metricsservice"
	"github.com/kedacore/keda/v2/pkg/provider"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	adapter "sigs.k8s.io/custom-metrics-apiserver/pkg/cmd"
)

func main() {
	if err := run(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "keda-adapter:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	base := &adapter.AdapterBase{Name: "keda-adapter"}
	operator := base.Flags().String("metrics-service-address", "localhost:9666", "of the KEDA operator's gRPC service")
	logging := zap.Options{}
	logging.BindFlags(flag.CommandLine)
	base.Flags().AddGoFlagSet(flag.CommandLine)
	if err := base.Flags().Parse(os.Args); err != nil {
		return err
	}
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&logging)))
	if err := kedav1alpha1.SchemeBuilder.AddToScheme(scheme.Scheme); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme.Scheme, Metrics: server.Options{BindAddress: "0"}})
	if err != nil {
		return err
	}
	client, err := metricsservice.NewGrpcClient(ctx, *operator, base.SecureServing.ServerCert.CertDirectory, "", "", grpcprom.NewClientMetrics(), false)
	if err != nil {
		return err
	}
	base.WithExternalMetrics(provider.NewProvider(ctx, ctrl.Log, manager.GetClient(), *client))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return manager.Start(ctx) })
	g.Go(func() error { return base.Run(ctx) })
	return g.Wait()
}
