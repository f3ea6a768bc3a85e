package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes"
	"github.com/inference-scaler/inference-scaler/scaler/check"
	"github.com/inference-scaler/inference-scaler/scaler/manifest"
	"github.com/inference-scaler/inference-scaler/scaler/migrate"
)

// exit is an error with an exit code.
type exit struct {
	code int
	error
}

func (e exit) Unwrap() error { return e.error }

// Exit codes of check, other than 0.
const (
	exitFindings = 1
	exitError    = 2 // also if some input could not be read
)

type checkFlags struct {
	cluster               bool
	kubeconfig, namespace string
	output, failOn        string
	disable               []string
	options               check.Options

	fromHPA       bool
	port          int
	scalerAddress string
}

func checkCommand() *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check [FILE|DIRECTORY|-]…",
		Short: "Lint ScaledObjects, or convert an HPA to a ScaledObject",
		Long: "Lint ScaledObjects, and print each finding with its file and line. The rules are listed\n" +
			"in deploy/TROUBLESHOOTING.md. The input is files and directories (*.yaml, *.yml,\n" +
			"*.json), standard input (-), or the cluster (--cluster). Rules about a workload need\n" +
			"the workload in the input.\n\n" +
			"With --from-hpa, the first file is an HPA with custom metrics, and the optional second\n" +
			"file is the values of prometheus-adapter. The output is the ScaledObject that replaces\n" +
			"the HPA.\n\n" +
			"The exit code is 0 without findings, 1 with findings or open questions, and 2 if some\n" +
			"input could not be read.",
		RunE: func(cmd *cobra.Command, args []string) error {
			err := f.run(cmd, args)
			var coded exit
			if err != nil && !errors.As(err, &coded) {
				return exit{exitError, err}
			}
			return err
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit{exitError, err} })
	fl := cmd.Flags()
	fl.BoolVar(&f.cluster, "cluster", false, "check the ScaledObjects of the cluster")
	fl.StringVar(&f.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "with --cluster: path of a kubeconfig file, for use outside a pod")
	fl.StringVarP(&f.namespace, "namespace", "n", "", "with --cluster: the namespace (default all)")
	fl.StringVarP(&f.output, "output", "o", "text", "text or json")
	fl.StringVar(&f.failOn, "fail-on", "warning", "lowest severity for exit code 1: error, warning, or never")
	fl.StringSliceVar(&f.disable, "disable", nil, "rules to ignore, separated by commas")
	fl.DurationVar(&f.options.LongestRequest, "longest-request", check.DefaultLongestRequest, "time that a pod needs to finish its requests")
	fl.DurationVar(&f.options.ModelLoad, "model-load", check.DefaultModelLoad, "time until a pod without a startup probe is ready")
	fl.DurationVar(&f.options.Burst, "burst", check.DefaultBurst, "longest acceptable time to scale from the minimum to the maximum")
	fl.BoolVar(&f.fromHPA, "from-hpa", false, "convert an HPA to a ScaledObject")
	fl.IntVar(&f.port, "port", 0, "with --from-hpa: metrics port of the pods")
	fl.StringVar(&f.scalerAddress, "scaler-address", "inference-scaler.keda.svc:9090", "with --from-hpa: address at which KEDA calls the scaler")
	return cmd
}

func (f *checkFlags) run(cmd *cobra.Command, args []string) error {
	if err := f.validateMode(cmd.Flags()); err != nil {
		return err
	}
	if err := f.validate(args); err != nil {
		return err
	}
	if f.fromHPA {
		return f.migrate(cmd, args)
	}
	docs, readErr := f.documents(cmd, args)
	if len(docs) == 0 && readErr != nil {
		return readErr
	}
	f.options.Complete = f.cluster
	report := check.Check(docs, f.options)
	if report.ScaledObjects == 0 && len(report.Findings) == 0 && !f.cluster {
		return errors.Join(errors.New("no ScaledObject with a trigger of this scaler in the input"), readErr)
	}
	report.Findings = slices.DeleteFunc(report.Findings, func(finding check.Finding) bool { return slices.Contains(f.disable, finding.Rule) })
	write := report.Text
	if f.output == "json" {
		write = report.JSON
	}
	if err := errors.Join(write(cmd.OutOrStdout()), readErr); err != nil {
		return err
	}
	failures, warnings := report.Count()
	if f.failOn == "warning" && failures+warnings > 0 || f.failOn == "error" && failures > 0 {
		cmd.SilenceErrors = true // the report contains them
		return exit{exitFindings, errors.New("findings")}
	}
	return nil
}

// validateMode rejects flags that have no effect in the mode.
func (f *checkFlags) validateMode(given *pflag.FlagSet) error {
	for _, mode := range []struct {
		on        bool
		otherwise string
		flags     []string
	}{
		{f.fromHPA, "without --from-hpa", []string{"port", "scaler-address"}},
		{f.cluster, "without --cluster", []string{"kubeconfig", "namespace"}},
		{!f.fromHPA, "with --from-hpa", []string{"output", "fail-on", "disable", "longest-request", "model-load", "burst"}},
	} {
		for _, name := range mode.flags {
			if !mode.on && given.Changed(name) {
				return fmt.Errorf("--%s has no effect %s", name, mode.otherwise)
			}
		}
	}
	if given.Changed("port") && f.port == 0 {
		return errPort(f.port)
	}
	return nil
}

func errPort(port int) error {
	return fmt.Errorf("--port: %d; wanted: a number from 1 to 65535", port)
}

func errDuration(flag string, d time.Duration) error {
	return fmt.Errorf("--%s: %s; wanted: a duration above 0", flag, d)
}

func (f *checkFlags) validate(args []string) error {
	switch {
	case f.output != "text" && f.output != "json":
		return fmt.Errorf("--output: %q; wanted: text or json", f.output)
	case !slices.Contains([]string{"error", "warning", "never"}, f.failOn):
		return fmt.Errorf("--fail-on: %q; wanted: error, warning or never", f.failOn)
	case f.port < 0 || f.port > 65535:
		return errPort(f.port)
	case f.options.LongestRequest <= 0:
		return errDuration("longest-request", f.options.LongestRequest)
	case f.options.ModelLoad <= 0:
		return errDuration("model-load", f.options.ModelLoad)
	case f.options.Burst <= 0:
		return errDuration("burst", f.options.Burst)
	case f.fromHPA && f.cluster:
		return errors.New("--cluster has no effect with --from-hpa")
	case f.fromHPA && (len(args) == 0 || len(args) > 2):
		return fmt.Errorf("--from-hpa: %d files; wanted: the file of the HPA and, optionally, that of prometheus-adapter's values", len(args))
	case f.cluster && len(args) > 0:
		return fmt.Errorf("--cluster: %d files; wanted: none", len(args))
	case !f.cluster && len(args) == 0:
		return errors.New("no input; wanted: files, directories, - for standard input, or --cluster")
	}
	var names []string
	for _, r := range check.Rules {
		names = append(names, r.Name)
	}
	for _, rule := range f.disable {
		if !slices.Contains(names, rule) {
			return fmt.Errorf("--disable: unknown rule %q; wanted: one of %s", rule, strings.Join(names, ", "))
		}
	}
	return nil
}

// documents returns the readable objects, and an error for the rest of the input.
func (f *checkFlags) documents(cmd *cobra.Command, args []string) ([]*manifest.Document, error) {
	if f.cluster {
		return f.clusterDocuments(cmd.Context())
	}
	var all []*manifest.Document
	var errs []error
	for _, arg := range args {
		files, err := manifests(arg)
		errs = append(errs, err)
		for _, file := range files {
			docs, err := readManifests(cmd.InOrStdin(), file)
			errs = append(errs, err)
			all = append(all, docs...)
		}
	}
	return all, errors.Join(errs...)
}

func (f *checkFlags) clusterDocuments(ctx context.Context) ([]*manifest.Document, error) {
	cfg, err := kubernetes.Config(f.kubeconfig)
	if err != nil {
		return nil, err
	}
	text, err := kubernetes.Manifests(ctx, cfg, f.namespace)
	if err != nil {
		return nil, err
	}
	return manifest.Read("", bytes.NewReader(text))
}

// manifests returns the file, or the files of a directory.
func manifests(name string) ([]string, error) {
	if name == "-" {
		return []string{name}, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	var files []string
	err = filepath.WalkDir(name+string(filepath.Separator)+".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) {
			files = append(files, path)
		}
		return err
	})
	return files, err
}

func readManifests(stdin io.Reader, file string) ([]*manifest.Document, error) {
	if file == "-" {
		return manifest.Read("stdin", stdin)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return manifest.Read(file, bytes.NewReader(text))
}

// migrate prints the ScaledObjects that replace the HPAs of a file.
func (f *checkFlags) migrate(cmd *cobra.Command, args []string) error {
	docs, err := readManifests(cmd.InOrStdin(), args[0])
	if err != nil {
		return err
	}
	o := migrate.Options{ScalerAddress: f.scalerAddress, Port: f.port}
	if len(args) == 2 {
		values, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		if o.Adapter, err = migrate.ReadAdapter(args[1], bytes.NewReader(values)); err != nil {
			return err
		}
	}
	text, questions, failed := migrate.HPAs(docs, o)
	if _, err := cmd.OutOrStdout().Write(text); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if len(questions) > 0 {
		return exit{exitFindings, fmt.Errorf("incomplete; open questions:\n  %s", strings.Join(questions, "\n  "))}
	}
	return nil
}
