// Package architecture holds the house rules that a compiler does not: which
// package may import which, and what every package and go.mod must look like.
package architecture

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/inference-scaler/inference-scaler/"

type pkg struct {
	ImportPath, Dir, Name                        string
	Imports, TestImports, XTestImports           []string
	GoFiles, TestGoFiles, XTestGoFiles, CgoFiles []string
}

func packages(t *testing.T) []pkg {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json", module+"...")
	out, err := cmd.Output()
	require.NoError(t, err)
	var all []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for dec.More() {
		var p pkg
		require.NoError(t, dec.Decode(&p))
		p.GoFiles = slices.DeleteFunc(p.GoFiles, generated)
		all = append(all, p)
	}
	require.Greater(t, len(all), 10)
	return all
}

// generated files are as their generator makes them.
func generated(file string) bool { return strings.HasSuffix(file, ".pb.go") }

// mayImport lists, for each package of ours, those of ours that it may import.
// What is not listed imports none.
var mayImport = map[string][]string{
	// Flags and wiring: it knows who implements what.
	"cmd/inference-scaler": {
		"cmd/inference-scaler/demo", "cmd/inference-scaler/listen",
		"scaler", "scaler/check", "scaler/evaluator", "scaler/explain", "scaler/manifest", "scaler/migrate",
		"metricsource/push", "metricsource/scrape", "metricsource/prometheus",
		"metricsource/kubernetes", "metricsource/kubernetes/events", "metricsource/kubernetes/lease",
	},

	// KEDA's RPCs, over the answers of the evaluator.
	"scaler": {"scaler/evaluator", "scaler/explain", "scaler/trigger"},
	// The live triggers: it opens sources, gathers, decides and publishes.
	"scaler/evaluator": {
		"scaler/capacity/broker", "scaler/credentials", "scaler/decision", "scaler/evidence", "scaler/explain", "scaler/trigger",
		"metricsource", "metricsource/cluster", "metricsource/prometheus", "metricsource/push", "metricsource/schedule", "metricsource/scrape",
	},
	// Pure: from what the sources show to the input of a decision.
	"scaler/evidence": {"scaler/decision", "scaler/trigger", "metricsource", "metricsource/cluster"},
	"scaler/decision": {"scaler/hpa"},
	// Pure: what is known of a decision, as text.
	"scaler/explain":         {"scaler/decision", "scaler/evidence", "scaler/hpa", "scaler/trigger", "metricsource", "metricsource/cluster"},
	"scaler/credentials":     {"metricsource/cluster", "metricsource/httpclient"},
	"scaler/capacity":        {"metricsource/cluster"},
	"scaler/capacity/broker": {"scaler/capacity", "scaler/decision", "scaler/trigger", "metricsource/cluster", "metricsource/schedule"},
	"scaler/check":           {"scaler/capacity", "scaler/hpa", "scaler/manifest", "scaler/trigger", "metricsource/cluster"},
	"scaler/migrate":         {"scaler/manifest", "scaler/preset", "scaler/trigger", "metricsource"}, // presets and their queries name the engine of a metric
	"scaler/trigger":         {"scaler/preset", "metricsource", "metricsource/excerpt"},
	// A fleet's pods and nodes, as Kubernetes lists them.
	"scaler/sim":                {"metricsource/cluster"},
	"cmd/inference-scaler/demo": {"scaler/hpa", "scaler/sim", "metricsource/cluster", "metricsource/schedule"},

	// Three writers of a Window. None knows KEDA, Kubernetes, or another one.
	"metricsource/scrape":     {"metricsource", "metricsource/httpclient", "metricsource/exposition", "metricsource/schedule"},
	"metricsource/prometheus": {"metricsource", "metricsource/excerpt", "metricsource/httpclient", "metricsource/schedule"},
	"metricsource/push":       {"metricsource", "metricsource/excerpt", "metricsource/push/otlp", "metricsource/schedule", "proto/demand/v1"},
	// A pure mapper: it knows neither the store nor the windows.
	"metricsource/push/otlp":     {"metricsource/excerpt", "proto/demand/v1"},
	"metricsource/sourcetest":    {"metricsource"}, // what each of them must do
	"examples/push/apiserver":    {"metricsource/push/reporter"},
	"metricsource/push/reporter": {"proto/demand/v1"},
	// Pods are watched once, for both indexes: workloads, and below them the inventory.
	"metricsource/kubernetes":           {"metricsource/cluster", "metricsource/kubernetes/inventory", "metricsource/kubernetes/informer"},
	"metricsource/kubernetes/inventory": {"metricsource/cluster", "metricsource/kubernetes/informer"},
	// Only the holder of the Lease writes events. The Lease knows no writer: there may be others.
	"metricsource/kubernetes/events": {"metricsource/kubernetes/lease", "metricsource/excerpt"},
	// Messages repeat input and responses, which excerpt shortens.
	"metricsource/exposition": {"metricsource/excerpt"},
}

// kubernetesPackages read and write the cluster: all others depend on plain structs.
var kubernetesPackages = []string{
	"metricsource/kubernetes", "metricsource/kubernetes/events", "metricsource/kubernetes/informer",
	"metricsource/kubernetes/inventory", "metricsource/kubernetes/lease",
}

// only lists foreign import paths, by prefix, and the packages of ours that alone may import them.
var only = map[string][]string{
	"k8s.io/client-go/": kubernetesPackages,
	// The cluster-autoscaler writes its status in YAML.
	"sigs.k8s.io/": {"metricsource/kubernetes/inventory"},
	"k8s.io/": slices.Concat(kubernetesPackages, []string{
		// Pod templates and nodes keep Kubernetes' types where the scheduler's own helpers evaluate them.
		"metricsource/cluster", "scaler/capacity", "scaler/check", "scaler/migrate",
		// The behavior of an HPA has Kubernetes' own type.
		"scaler/hpa", "scaler/explain", "cmd/inference-scaler/demo",
	}),
	"github.com/kedacore/": {"scaler", "cmd/inference-scaler/demo"},
	"github.com/prometheus/prometheus/": {
		"metricsource", "metricsource/exposition", "metricsource/push", "metricsource/scrape",
		"metricsource/prometheus", // labels of the series that it writes to a Window
		"scaler/evaluator",        // labels of targets
		"scaler/evidence",         // storage.Queryable: a window, or a part of it
	},
	"github.com/spf13/cobra": {"cmd/inference-scaler"},
}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		self := strings.TrimPrefix(p.ImportPath, module)
		for _, imported := range p.Imports {
			if ours, ok := strings.CutPrefix(imported, module); ok {
				require.Contains(t, mayImport[self], ours, "%s imports %s", self, ours)
			}
			for prefix, allowed := range only {
				if strings.HasPrefix(imported, prefix) {
					require.Contains(t, allowed, self, "%s imports %s", self, imported)
				}
			}
			if strings.HasPrefix(imported, "github.com/kedacore/") {
				require.True(t, strings.HasSuffix(imported, "/pkg/scalers/externalscaler"), "%s imports %s", self, imported)
			}
		}
	}
}

// pure packages compute: the time is an argument, and nothing runs beside them. Replays
// and property tests rest on it.
var pure = []string{"scaler/capacity", "scaler/decision", "scaler/evidence", "scaler/hpa"}

func TestPurePackages(t *testing.T) {
	found := 0
	for _, p := range packages(t) {
		self := strings.TrimPrefix(p.ImportPath, module)
		if !slices.Contains(pure, self) {
			continue
		}
		found++
		for _, imported := range p.Imports {
			if imported == "context" && self == "scaler/evidence" {
				continue // it bounds the queries
			}
			require.NotContains(t, []string{"context", "math/rand", "math/rand/v2", "net", "net/http", "os", "sync", "sync/atomic"}, imported, self)
		}
		for _, file := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt, *ast.SelectStmt, *ast.ChanType:
					require.Fail(t, "a goroutine or a channel", path.Join(self, file))
				case *ast.SelectorExpr:
					if of, ok := n.X.(*ast.Ident); ok && of.Name == "time" {
						require.NotContains(t, []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}, n.Sel.Name, path.Join(self, file))
					}
				}
				return true
			})
		}
	}
	require.Equal(t, len(pure), found)
}

func TestEveryPackageHasOneDoc(t *testing.T) {
	banned := []string{"util", "utils", "common", "types", "helpers", "misc", "base"}
	for _, p := range packages(t) {
		require.NotContains(t, banned, p.Name, p.ImportPath)
		docs := 0
		for _, file := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			if len(p.GoFiles) > 0 && strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.ParseComments|parser.PackageClauseOnly)
			require.NoError(t, err)
			if f.Doc != nil {
				docs++
			}
		}
		require.Equal(t, 1, docs, "%s: package docs", p.ImportPath)
	}
}

func TestFilesStayShort(t *testing.T) {
	for _, p := range packages(t) {
		for _, file := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			require.NoError(t, err)
			require.LessOrEqual(t, strings.Count(string(text), "\n"), 400, path.Join(p.ImportPath, file))
		}
	}
}

func TestGoModReplacesNothing(t *testing.T) {
	text, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	require.NotContains(t, string(text), "replace")
}

// A pattern that matches no test is no error of go test's.
func TestMakefileNamesTestsThatExist(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	named := regexp.MustCompile(`\bTest[A-Z]\w*`).FindAllString(string(makefile), -1)
	require.GreaterOrEqual(t, len(named), 5, "those of e2e-smoke, and of chaos")
	var source strings.Builder
	for _, dir := range []string{"../e2e", "../../scaler"} {
		files, err := filepath.Glob(dir + "/*_test.go")
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			source.Write(text)
		}
	}
	for _, name := range named {
		require.Contains(t, source.String(), "\nfunc "+name+"(t *testing.T) {\n")
	}
}

func TestNothingInitialisesItself(t *testing.T) {
	for _, p := range packages(t) {
		for _, file := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			require.NoError(t, err)
			require.NotContains(t, string(text), "\nfunc init()", path.Join(p.ImportPath, file))
		}
	}
}
