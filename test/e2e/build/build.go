// Package build provides the programs that the tests run, and that are not the
// product's: compiled from Go modules, or taken from Debian's packages. They are
// kept in the user's cache folder, outside of the repository, by the checksum of
// what they are made of. All must be called in the folder of the module test/e2e.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// ControlPlane returns the folder of the control plane's binaries and manifests:
// about 15 minutes on two cores the first time, nothing after that. What is done is
// logged to w.
func ControlPlane(ctx context.Context, w io.Writer) (dir string, err error) {
	return cached("control-plane", []string{"go.mod", "go.sum", "cmd/*/*.go"}, func(dir string) error {
		fmt.Fprintln(w, "building the control plane (about 15 minutes, once)")
		version, err := list(ctx, "{{.Version}}", "k8s.io/kubernetes")
		if err != nil {
			return err
		}
		// Clients read these from /version; an unstamped apiserver has the version v0.0.0.
		minor, _, _ := strings.Cut(strings.TrimPrefix(version, "v1."), ".")
		settings := []string{
			"gitVersion=" + version, "gitMajor=1", "gitMinor=" + minor, "gitTreeState=clean",
			"gitCommit=" + strings.Repeat("0", 40), "buildDate=1970-01-01T00:00:00Z",
		}
		const set = " -X k8s.io/component-base/version."
		stamp := "-s -w" + set + strings.Join(settings, set)
		for _, pkg := range []string{"./cmd/kube", "./cmd/kwok", "./cmd/keda-adapter", "github.com/kedacore/keda/v2/cmd/operator"} {
			if err := compile(ctx, w, ".", pkg, "-ldflags", stamp, "-o", dir+"/"); err != nil {
				return err
			}
		}
		return copyManifests(ctx, dir)
	})
}

// Product builds the product into dir and returns its path.
func Product(ctx context.Context, w io.Writer, dir string) (path string, err error) {
	path = filepath.Join(dir, "inference-scaler")
	return path, compile(ctx, w, filepath.Join("..", ".."), "./cmd/inference-scaler", "-o", path)
}

// PrometheusAdapter returns the path of the prometheus-adapter.
func PrometheusAdapter(ctx context.Context, w io.Writer) (path string, err error) {
	dir, err := cached("prometheus-adapter", []string{"adapter/go.mod", "adapter/go.sum"}, func(dir string) error {
		return compile(ctx, w, "adapter", "sigs.k8s.io/prometheus-adapter/cmd/adapter", "-ldflags", "-s -w", "-o", dir+"/")
	})
	return filepath.Join(dir, "adapter"), err
}

// Prometheus returns the path of a prometheus: the installed one, else that of
// Debian's package.
func Prometheus(ctx context.Context, w io.Writer) (path string, err error) {
	if path, err := exec.LookPath("prometheus"); err == nil {
		return path, nil
	}
	root, err := Debian(ctx, w, "prometheus")
	return filepath.Join(root, "usr", "bin", "prometheus"), err
}

// Debian returns the folder that a package of Debian's is unpacked in. It is not
// installed, which would start a server.
func Debian(ctx context.Context, w io.Writer, name string) (root string, err error) {
	return cached(name, nil, func(dir string) error {
		download := func() error { return run(ctx, w, dir, "apt-get", "download", name) }
		if err := download(); err != nil {
			// The machine's lists of packages are old, or not there yet.
			if err := run(ctx, w, dir, "apt-get", "update"); err != nil {
				return err
			}
			if err := download(); err != nil {
				return err
			}
		}
		packages, err := filepath.Glob(filepath.Join(dir, "*.deb"))
		if err != nil || len(packages) != 1 {
			return errors.Join(err, fmt.Errorf("apt-get download left %d packages", len(packages)))
		}
		return run(ctx, w, dir, "dpkg", "-x", packages[0], ".")
	})
}

// cached returns the folder that make has filled, for the content of these files
// (patterns). It is filled beside its place and renamed when it is whole, so that two
// runs at once do not see each other's half.
func cached(name string, made []string, make func(dir string) error) (string, error) {
	sum, err := checksum(made)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	final := filepath.Join(cache, "inference-scaler", "e2e", name+"-"+sum)
	now := time.Now() // what is used is kept
	if os.Chtimes(final, now, now) == nil {
		return final, nil
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o750); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(filepath.Dir(final), "making-"+name+"-")
	if err != nil {
		return "", err
	}
	if err := make(dir); err != nil {
		return "", errors.Join(fmt.Errorf("%s: %w", name, err), os.RemoveAll(dir))
	}
	if err := os.Rename(dir, final); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	now = time.Now() // unpacking may have left another time
	return final, errors.Join(os.Chtimes(final, now, now), forget(filepath.Dir(final)))
}

// unused is after what time a folder that no run has asked for is deleted.
const unused = 7 * 24 * time.Hour

// forget deletes what was made of former versions, and what was left half made.
func forget(cache string) error {
	entries, err := os.ReadDir(cache)
	errs := []error{err}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > unused {
			errs = append(errs, os.RemoveAll(filepath.Join(cache, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// checksum is that of the toolchain and of these files, and of how this package
// makes things.
func checksum(patterns []string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, pattern := range append([]string{"build/*.go"}, patterns...) {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			return "", errors.Join(err, fmt.Errorf("no file %s", pattern))
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// compile builds a package of the module in the folder.
func compile(ctx context.Context, w io.Writer, module, pkg string, flags ...string) error {
	fmt.Fprintln(w, "go build", pkg)
	args := append([]string{"build", "-buildvcs=false", "-trimpath"}, flags...)
	return run(ctx, w, module, "go", append(args, pkg)...)
}

func run(ctx context.Context, w io.Writer, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return nil
}

// copyManifests takes those that come with the modules: KEDA's CRDs, and kwok's
// stages in which a node becomes ready and stays so.
func copyManifests(ctx context.Context, dir string) error {
	keda, err := list(ctx, "{{.Dir}}", "github.com/kedacore/keda/v2")
	if err != nil {
		return err
	}
	kwok, err := list(ctx, "{{.Dir}}", "sigs.k8s.io/kwok")
	if err != nil {
		return err
	}
	for name, patterns := range map[string][]string{
		"keda-crds.yaml": {keda + "/config/crd/bases/*.yaml"},
		"node-stages.yaml": {
			kwok + "/kustomize/stage/node/fast/node-initialize.yaml",
			kwok + "/kustomize/stage/node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
		},
	} {
		var all strings.Builder
		for _, pattern := range patterns {
			files, err := filepath.Glob(pattern)
			if err != nil || len(files) == 0 {
				return errors.Join(err, fmt.Errorf("no file %s", pattern))
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				all.WriteString("---\n")
				all.Write(text)
				all.WriteString("\n")
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(all.String()), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func list(ctx context.Context, format, module string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", format, module).Output()
	if err != nil {
		return "", fmt.Errorf("go list -m %s: %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}
