package keda

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	// patience bounds every wait for a state: it only ends a hang.
	patience = 30 * time.Second
	tick     = 20 * time.Millisecond

	namespace = "speech"
)

// binary is the path of the inference-scaler under test.
var binary string

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// run returns the exit code of the tests, or why there is nothing to test.
func run(m *testing.M) (code int, err error) {
	if binary = os.Getenv("INFERENCE_SCALER"); binary != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "inference-scaler-keda-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	binary = filepath.Join(dir, "inference-scaler")
	build := exec.Command("go", "build", "-o", binary, "./cmd/inference-scaler")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build ./cmd/inference-scaler: %w\n%s", err, out)
	}
	return m.Run(), nil
}
