package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/inference-scaler/inference-scaler/test/e2e/build"
	"github.com/inference-scaler/inference-scaler/test/e2e/sandbox"
)

// Environment variables for the process in the sandbox: where the programs are, and
// the folder of this run.
const (
	controlPlaneEnv = "E2E_CONTROL_PLANE"
	prometheusEnv   = "E2E_PROMETHEUS"
	adapterEnv      = "E2E_PROMETHEUS_ADAPTER"
	scalerEnv       = "INFERENCE_SCALER" // may be set from outside too
	dirEnv          = "E2E_DIR"
)

// The addresses of the sandbox.
var (
	podNetwork = net.IPNet{IP: net.IPv4(10, 244, 0, 0), Mask: net.CIDRMask(16, 32)}
	nodeIP     = net.IPv4(10, 244, 255, 254)
	nameserver = net.IPv4(127, 0, 0, 1)
)

// env is what all scenarios share.
var env *environment

func TestMain(m *testing.M) {
	flag.Parse()
	klog.SetLogger(logr.Discard()) // client-go's own words; failures come back as errors
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	run := outside
	if sandbox.Inside() {
		run = func(ctx context.Context) (int, error) { return within(ctx, m) }
	}
	code, err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// outside makes all that is needed, and runs this program again in a sandbox.
func outside(ctx context.Context) (code int, err error) {
	dir, err := os.MkdirTemp("", "inference-scaler-e2e-")
	if err != nil {
		return 1, err
	}
	environ, err := programs(ctx, dir)
	if err != nil {
		return 1, errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go whenOrphaned(ctx, cancel)
	code, err = sandbox.Run(ctx, append(environ, dirEnv+"="+dir)...)
	if code == 0 && err == nil {
		return 0, os.RemoveAll(dir)
	}
	fmt.Fprintln(os.Stderr, "e2e: logs and timelines are in", dir)
	return code, err
}

// whenOrphaned calls stop when the parent, `go test`, has gone: it was killed, and
// would have stopped us otherwise.
func whenOrphaned(ctx context.Context, stop func()) {
	parent := os.Getppid()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for os.Getppid() == parent {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	stop()
}

// programs makes those that the tests of this run need, while there is a network.
func programs(ctx context.Context, dir string) (environ []string, err error) {
	add := func(name string, get func(context.Context, io.Writer) (string, error)) {
		path, getErr := get(ctx, os.Stderr)
		err = errors.Join(err, getErr)
		environ = append(environ, name+"="+path)
	}
	add(controlPlaneEnv, build.ControlPlane)
	if slices.ContainsFunc([]string{"TestSideBySide", "TestFromZeroSideBySide", "TestWakesByPrometheus", "TestGPUUtilisation", "TestAPITierSideBySide", "TestAlerts", "TestDashboard", "TestExamplesScale"}, wanted) {
		add(prometheusEnv, build.Prometheus)
	}
	if wanted("TestSideBySide") {
		add(adapterEnv, build.PrometheusAdapter)
	}
	add(scalerEnv, func(ctx context.Context, w io.Writer) (string, error) {
		if given := os.Getenv(scalerEnv); given != "" {
			return given, nil
		}
		return build.Product(ctx, w, dir)
	})
	return environ, err
}

// wanted reports whether this run is to run the test of that name.
func wanted(test string) bool {
	pattern := flag.Lookup("test.run").Value.String()
	matched, err := regexp.MatchString(strings.Split(pattern, "/")[0], test)
	return matched || err != nil // the testing package says what is wrong with it
}

// within is the first process of the sandbox.
func within(ctx context.Context, m *testing.M) (code int, err error) {
	dir := os.Getenv(dirEnv)
	if err := sandbox.Enter(sandbox.Options{Pods: podNetwork, Nameserver: nameserver, Dir: dir}); err != nil {
		return 1, err
	}
	e, err := newEnvironment(ctx, dir)
	if err != nil {
		return 1, err
	}
	env = e
	code = m.Run()
	return code, errors.Join(e.cluster.Unexpected(), e.stop(), e.agent.Unexpected())
}
