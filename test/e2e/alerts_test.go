package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	p := s.startPrometheus(map[string]string{"inference-scaler": "1s"})
	f := s.fleet(workload{Replicas: 1})
	f.scale(quick{min: 1, max: 2, triggers: push("engine: lightning-asr")}.String())
	p.discovers("inference-scaler", f, func() map[string]string {
		all := map[string]string{}
		for _, pod := range s.readyScalers(s.scaler.Namespace) {
			all[pod.Name] = pod.Status.PodIP + ":8080"
		}
		return all
	})
	f.until("the scaler answers", func(m moment) bool { return m.Wanted >= 0 })
	for _, rule := range file.Groups[0].Rules {
		require.Contains(t, string(runbook), "## "+rule.Alert+"\n")
		names := metricName.FindAllString(rule.Expr, -1)
		require.NotEmpty(t, names, rule.Alert)
		for _, name := range names {
			// What is only there after a call has failed shows after one that has not.
			name = regexp.MustCompile(`, ?grpc_code!~"[^"]*"`).ReplaceAllString(name, "")
			s.wait(rule.Alert+" finds "+name, func() error {
				n, err := p.query("count(" + name + ")")
				if err == nil && n == 0 {
					err = errors.New("there is none")
				}
				return err
			})
		}
	}
}
