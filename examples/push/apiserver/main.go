// Command apiserver is the part of an API server that reports its demand. It holds
// requests for an inference fleet in 8 slots. It reports the requests that wait for a
// slot, and those in flight.
//
//	SCALER=dns:///inference-scaler.keda.svc:4317 TOKEN=… POD_NAMESPACE=smallest POD_NAME=api-0 WORKLOAD=lightning-asr apiserver
//
// CA names a file with the CA of the scaler's certificate; without, there is no TLS.
package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/inference-scaler/inference-scaler/metricsource/push/reporter"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		slog.Error("apiserver", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	creds := insecure.NewCredentials()
	if ca := os.Getenv("CA"); ca != "" {
		var err error
		if creds, err = credentials.NewClientTLSFromFile(ca, ""); err != nil {
			return err
		}
	}
	r, err := reporter.New(reporter.Options{
		Address: os.Getenv("SCALER"), Credentials: creds, Token: os.Getenv("TOKEN"),
		Namespace: os.Getenv("POD_NAMESPACE"), Workload: os.Getenv("WORKLOAD"), Instance: os.Getenv("POD_NAME"),
		Logger: slog.Default(),
	})
	if err != nil {
		return err
	}
	places := make(chan struct{}, 8)
	transcribe := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		handed := r.Wait() // until one of the servers takes it
		defer handed()
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		case <-req.Context().Done():
			return
		}
		handed()
		_, _ = w.Write([]byte("…\n")) // the work itself
	})
	server := &http.Server{Addr: ":7100", Handler: r.Handler(transcribe), ReadHeaderTimeout: 5 * time.Second}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.Run(ctx) })
	g.Go(func() error {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return g.Wait()
}
