package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"
	"google.golang.org/grpc"

	"github.com/inference-scaler/inference-scaler/cmd/inference-scaler/demo"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler"
	"github.com/inference-scaler/inference-scaler/scaler/evaluator"
)

func demoCommand() *cobra.Command {
	scenario := demo.DefaultScenario()
	var plain bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Scale a simulated fleet, without a cluster",
		Long: "Scale a simulated Lightning ASR fleet with the real scaler, which reads HTTP servers\n" +
			"and responds over gRPC. The queues of the fleet, KEDA and the HPA are models.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), cmd.OutOrStdout(), scenario, plain)
		},
	}
	cmd.Flags().Float64Var(&scenario.Speed, "speed", scenario.Speed, "simulated seconds per real second")
	cmd.Flags().Uint64Var(&scenario.Seed, "seed", scenario.Seed, "seed of the arrivals")
	cmd.Flags().BoolVar(&plain, "plain", false, "write log lines, even to a terminal")
	return cmd
}

func runDemo(ctx context.Context, out io.Writer, scenario demo.Scenario, plain bool) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d, err := demo.New(scenario, listener.Addr().String())
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	scraper := scrape.New(scrape.Options{Dial: d.DialContext})
	e := evaluator.New(evaluator.Options{Cluster: d.Cluster(), Scraper: scraper})
	s := scaler.New(e)
	server := grpc.NewServer()
	s.Register(server)

	g, ctx := errgroup.WithContext(ctx)
	serving, stop := context.WithCancel(ctx)
	defer stop()
	g.Go(func() error { return server.Serve(listener) })
	g.Go(func() error {
		<-serving.Done()
		s.CloseStreams()
		server.GracefulStop()
		return nil
	})
	g.Go(func() error { return scraper.Run(serving) })
	g.Go(func() error { return d.Cluster().Run(serving, e.Changed, e.InventoryChanged) })
	g.Go(func() error { return e.Run(serving) })

	var summary demo.Summary
	g.Go(func() error {
		defer stop()
		var err error
		summary, err = d.Run(ctx, demo.Options{
			OnFrame: display(out, scenario, plain),
			Explain: func(name string) (demo.Explanation, bool) { return lastDecision(e, scenario.Namespace, name) },
		})
		return err
	})
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil // the summary shows the interruption
	}
	_, printErr := fmt.Fprint(out, "\n", summary)
	return errors.Join(err, printErr)
}

// lastDecision returns the scaler's last decision for a workload, or false before the first.
func lastDecision(e *evaluator.Evaluator, namespace, scaledObject string) (demo.Explanation, bool) {
	all := e.Explanations(func(ns, name string) bool { return ns == namespace && name == scaledObject })
	if len(all) != 1 || all[0].Replicas == nil {
		return demo.Explanation{}, false
	}
	out := demo.Explanation{Replicas: *all[0].Replicas, At: all[0].DecidedAt}
	if n := len(all[0].Steps); n > 0 {
		out.Rule = all[0].Steps[n-1].Rule
	}
	return out, true
}

// display returns a live display on a terminal, or else a log.
func display(out io.Writer, scenario demo.Scenario, plain bool) func(demo.Frame) {
	if f, ok := out.(*os.File); ok && !plain && term.IsTerminal(int(f.Fd())) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return demo.NewLive(out, scenario, width, os.Getenv("NO_COLOR") == "").Show
		}
	}
	return demo.NewLog(out, 30*time.Second).Show
}
