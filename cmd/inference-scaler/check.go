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

// The codes of check, beside 0.
const (
	exitFound     = 1 // there are findings
	exitUnchecked = 2 // something could not be checked
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
		Short: "Say what would go wrong with ScaledObjects, or write the one that replaces an HPA",
		Long: "Say what would go wrong with ScaledObjects, and in which line, by rules that\n" +
			"deploy/TROUBLESHOOTING.md lists. They are read from files and directories (*.yaml,\n" +
			"*.yml, *.json), from standard input (-), or with --cluster from the cluster. Rules\n" +
			"about the workloads speak where these are given too.\n\n" +
			"With --from-hpa the files are an HPA with custom metrics and, as the second,\n" +
			"prometheus-adapter's values; the ScaledObject that takes the HPA's place is printed.\n\n" +
			"Exits with 0 when there is nothing to mend, with 1 when there is, and with 2 when\n" +
			"something could not be looked at.",
		RunE: func(cmd *cobra.Command, args []string) error {
			err := f.run(cmd, args)
			var known exit
			if err != nil && !errors.As(err, &known) {
				return exit{exitUnchecked, err}
			}
			return err
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit{exitUnchecked, err} })
	fl := cmd.Flags()
	fl.BoolVar(&f.cluster, "cluster", false, "check what is in the cluster")
	fl.StringVar(&f.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "the cluster's kubeconfig, outside a pod")
	fl.StringVarP(&f.namespace, "namespace", "n", "", "the cluster's namespace; all, if empty")
	fl.StringVarP(&f.output, "output", "o", "text", "text or json")
	fl.StringVar(&f.failOn, "fail-on", "warning", "exit with 1 for an error, or for a warning too, or never")
	fl.StringSliceVar(&f.disable, "disable", nil, "rules that do not matter here")
	fl.DurationVar(&f.options.LongestRequest, "longest-request", check.DefaultLongestRequest, "what a pod needs to end its work")
	fl.DurationVar(&f.options.ModelLoad, "model-load", check.DefaultModelLoad, "until a pod is ready, where no startup probe tells")
	fl.DurationVar(&f.options.Burst, "burst", check.DefaultBurst, "within what time a fleet should grow from its smallest to its largest")
	fl.BoolVar(&f.fromHPA, "from-hpa", false, "print the ScaledObject that replaces an HPA")
	fl.IntVar(&f.port, "port", 0, "with --from-hpa: where the pods serve their metrics")
	fl.StringVar(&f.scalerAddress, "scaler-address", "inference-scaler.keda.svc:9090", "with --from-hpa: where KEDA finds the scaler")
	return cmd
}

func (f *checkFlags) run(cmd *cobra.Command, args []string) error {
	if err := f.fit(cmd.Flags()); err != nil {
		return err
	}
	if err := f.validate(args); err != nil {
		return err
	}
	if f.fromHPA {
		return f.migrate(cmd, args)
	}
	docs, unread := f.documents(cmd, args)
	if len(docs) == 0 && unread != nil {
		return unread
	}
	f.options.Complete = f.cluster
	report := check.Check(docs, f.options)
	if report.ScaledObjects == 0 && len(report.Findings) == 0 && !f.cluster {
		return errors.Join(errors.New("no ScaledObject with a trigger of this scaler in what was given"), unread)
	}
	report.Findings = slices.DeleteFunc(report.Findings, func(found check.Finding) bool { return slices.Contains(f.disable, found.Rule) })
	write := report.Text
	if f.output == "json" {
		write = report.JSON
	}
	if err := errors.Join(write(cmd.OutOrStdout()), unread); err != nil {
		return err
	}
	failures, warnings := report.Count()
	if f.failOn == "warning" && failures+warnings > 0 || f.failOn == "error" && failures > 0 {
		cmd.SilenceErrors = true // the report contains them
		return exit{exitFound, errors.New("there is something to mend")}
	}
	return nil
}

// fit refuses flags that have no effect in the chosen mode.
func (f *checkFlags) fit(given *pflag.FlagSet) error {
	for _, mode := range []struct {
		on    bool
		means string
		flags []string
	}{
		{f.fromHPA, "without --from-hpa", []string{"port", "scaler-address"}},
		{f.cluster, "without --cluster", []string{"kubeconfig", "namespace"}},
		{!f.fromHPA, "beside --from-hpa", []string{"output", "fail-on", "disable", "longest-request", "model-load", "burst"}},
	} {
		for _, name := range mode.flags {
			if !mode.on && given.Changed(name) {
				return fmt.Errorf("--%s: means nothing %s", name, mode.means)
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

func (f *checkFlags) validate(args []string) error {
	switch {
	case f.output != "text" && f.output != "json":
		return fmt.Errorf("--output: %q; wanted: text or json", f.output)
	case !slices.Contains([]string{"error", "warning", "never"}, f.failOn):
		return fmt.Errorf("--fail-on: %q; wanted: error, warning or never", f.failOn)
	case f.port < 0 || f.port > 65535:
		return errPort(f.port)
	case f.options.LongestRequest <= 0 || f.options.ModelLoad <= 0 || f.options.Burst <= 0:
		return errors.New("--longest-request, --model-load and --burst: wanted: a duration above 0")
	case f.fromHPA && (len(args) == 0 || len(args) > 2 || f.cluster):
		return fmt.Errorf("--from-hpa: %d files; wanted: the HPA's, and perhaps prometheus-adapter's values", len(args))
	case f.cluster && len(args) > 0:
		return errors.New("--cluster: wanted: no files beside it")
	case !f.cluster && len(args) == 0:
		return errors.New("nothing to check; wanted: files, directories, - for standard input, or --cluster")
	}
	var names []string
	for _, r := range check.Rules {
		names = append(names, r.Name)
	}
	for _, rule := range f.disable {
		if !slices.Contains(names, rule) {
			return fmt.Errorf("--disable: %q is not known; wanted: one of %s", rule, strings.Join(names, ", "))
		}
	}
	return nil
}

// documents returns the objects that can be read, and an error for the others.
func (f *checkFlags) documents(cmd *cobra.Command, args []string) ([]*manifest.Document, error) {
	if f.cluster {
		return f.ofCluster(cmd.Context())
	}
	var all []*manifest.Document
	var unread []error
	for _, arg := range args {
		files, err := manifests(arg)
		unread = append(unread, err)
		for _, file := range files {
			docs, err := readManifests(cmd.InOrStdin(), file)
			unread = append(unread, err)
			all = append(all, docs...)
		}
	}
	return all, errors.Join(unread...)
}

func (f *checkFlags) ofCluster(ctx context.Context) ([]*manifest.Document, error) {
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
	text, questions, refused := migrate.HPAs(docs, o)
	if _, err := cmd.OutOrStdout().Write(text); err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	if len(questions) > 0 {
		return exit{exitFound, fmt.Errorf("not complete:\n  %s", strings.Join(questions, "\n  "))}
	}
	return nil
}
