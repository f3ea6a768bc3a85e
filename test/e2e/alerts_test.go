package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const alerts = "../../deploy/alerts/"

// metricName is one of ours, or of the libraries', within an expression.
var metricName = regexp.MustCompile(`\b(?:inference_scaler|grpc_server|process)_[a-z_]+(?:\{[^}]*\})?`)

// The alerts are true of their unit tests, and about series that a running scaler has: a
// real Prometheus that has read one finds some for each.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool := filepath.Join(filepath.Dir(os.Getenv(prometheusEnv)), "promtool")
	test := exec.CommandContext(t.Context(), promtool, "test", "rules", "inference-scaler_test.yaml")
	test.Dir = alerts
	out, err := test.CombinedOutput()
	require.NoError(t, err, string(out))

	text, err := os.ReadFile(alerts + "inference-scaler.rules.yaml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	runbook, err := os.ReadFile(alerts + "README.md")
	require.NoError(t, err)

	s := begin(t)
	p, _ := s.watched()
	for _, rule := range file.Groups[0].Rules {
		require.Contains(t, string(runbook), "## "+rule.Alert+"\n")
		names := metricName.FindAllString(rule.Expr, -1)
		require.NotEmpty(t, names, rule.Alert)
		for _, name := range names {
			// What is only there after a call has failed shows after one that has not.
			name = regexp.MustCompile(`, ?grpc_code!~"[^"]*"`).ReplaceAllString(name, "")
			p.finds(rule.Alert, name)
		}
	}
}

// Every panel of the dashboard, and every variable, shows something of a running scaler.
func TestDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/grafana/inference-scaler.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))

	s := begin(t)
	p, f := s.watched()
	values := strings.NewReplacer("$namespace", s.namespace, "$scaledobject", f.Name, "$trigger", ".*", "$job", "inference-scaler", "$__rate_interval", "10s")
	queries := 0
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			p.finds(panel.Title, values.Replace(target.Expr))
			queries++
		}
	}
	require.Greater(t, queries, 20)
	labelValues := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	for _, variable := range dashboard.Templating.List {
		if m := labelValues.FindStringSubmatch(variable.Definition); m != nil {
			p.finds(variable.Name, "count by ("+m[2]+") ("+values.Replace(m[1])+")")
		} else {
			require.Equal(t, "datasource", variable.Name)
		}
	}
}

// watched starts a Prometheus that reads the scalers, of which a fleet on GPUs is asked.
func (s *scenario) watched() (*prometheus, *fleet) {
	s.Helper()
	p := s.startPrometheus(map[string]string{"inference-scaler": "1s"})
	s.provide(2)
	f := s.fleet(workload{Nodes: s.namespace})
	f.scale(quick{min: 1, max: 2, triggers: clamped}.String())
	p.discovers("inference-scaler", f, func() map[string]string {
		all := map[string]string{}
		for _, pod := range s.readyScalers(s.scaler.Namespace) {
			all[pod.Name] = pod.Status.PodIP + ":8080"
		}
		return all
	})
	f.until("the scaler answers", func(m moment) bool { return m.Wanted >= 0 })
	return p, f
}

// finds waits until the query has a result.
func (p *prometheus) finds(what, query string) {
	p.Helper()
	p.wait(what+" finds "+query, func() error {
		n, err := p.query("count(" + query + ")")
		if err == nil && n == 0 {
			err = errors.New("there is none")
		}
		return err
	})
}
