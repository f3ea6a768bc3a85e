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
	story := demo.DefaultStory()
	var plain bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Scale a simulated fleet with the real scaler, without a cluster",
		Long: "Scale a simulated Lightning ASR fleet. The scaler is the real one: it reads real\n" +
			"HTTP servers and answers over gRPC. The fleet's queues, KEDA and the HPA are models.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), cmd.OutOrStdout(), story, plain)
		},
	}
	cmd.Flags().Float64Var(&story.Speed, "speed", story.Speed, "seconds of the story for each real one")
	cmd.Flags().Uint64Var(&story.Seed, "seed", story.Seed, "of the traffic")
	cmd.Flags().BoolVar(&plain, "plain", false, "log lines, though this is a terminal")
	return cmd
}

func runDemo(ctx context.Context, out io.Writer, story demo.Story, plain bool) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d, err := demo.New(story, listener.Addr().String())
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
			OnFrame: view(out, story, plain),
			Explain: func(name string) (demo.Explanation, bool) { return decided(e, story.Namespace, name) },
		})
		return err
	})
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil // interrupted: the summary contains it
	}
	_, printErr := fmt.Fprint(out, "\n", summary)
	return errors.Join(err, printErr)
}

// decided is the scaler's last decision for a workload of the story.
func decided(e *evaluator.Evaluator, namespace, scaledObject string) (demo.Explanation, bool) {
	all := e.Explanations(func(ns, name string) bool { return ns == namespace && name == scaledObject })
	if len(all) != 1 || all[0].Replicas == nil {
		return demo.Explanation{}, false
	}
	out := demo.Explanation{Replicas: *all[0].Replicas, At: all[0].DecidedAt}
	if n := len(all[0].Steps); n > 0 {
		out.Step = all[0].Steps[n-1].Rule
	}
	return out, true
}

func view(out io.Writer, story demo.Story, plain bool) func(demo.Frame) {
	if f, ok := out.(*os.File); ok && !plain && term.IsTerminal(int(f.Fd())) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return demo.NewLive(out, story, width, os.Getenv("NO_COLOR") == "").Show
		}
	}
	return demo.NewLog(out, 30*time.Second).Show
}
