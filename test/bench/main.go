package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// part is one thing that is measured.
type part struct {
	name string
	run  func(*bench) error
}

var parts = []part{
	{"expositions", expositions},
	{"functions", functions},
	{"targets", targets},
	{"python", python},
	{"calls", calls},
	{"streams", streams},
	{"steady", steady},
}

// bench is a run.
type bench struct {
	context.Context
	binary string // the scaler's
	dir    string // of the run, removed at its end
	steady time.Duration
	table  *table
}

func main() {
	if address := os.Getenv(serveEnv); address != "" {
		exit(serveChild(address))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		exit(err)
	}
	os.Exit(code)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	os.Exit(0)
}

func run(ctx context.Context, args []string) (code int, err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	b := &bench{Context: ctx, table: newTable(os.Stdout)}
	fs.StringVar(&b.binary, "binary", "", "the scaler's binary")
	fs.DurationVar(&b.steady, "steady", 10*time.Minute, "for how long nothing may grow")
	if err := fs.Parse(args); err != nil {
		return 0, err
	}
	if b.binary == "" {
		return 0, errors.New("-binary: missing; wanted: the scaler's, as `make bench` gives it")
	}
	if b.binary, err = filepath.Abs(b.binary); err != nil { // processes start in a folder of the run's
		return 0, err
	}
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	for _, asked := range fs.Args() {
		if !slices.Contains(names, asked) {
			return 0, fmt.Errorf("%q is no part; wanted: some of %s, or none for all", asked, strings.Join(names, ", "))
		}
	}
	if b.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	for _, p := range parts {
		if fs.NArg() > 0 && !slices.Contains(fs.Args(), p.name) {
			continue
		}
		if err := p.run(b); err != nil {
			return 0, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return b.table.finish(), nil
}
