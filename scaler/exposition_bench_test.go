package scaler

import (
	"os"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/exposition"
	"github.com/inference-scaler/inference-scaler/scaler/preset"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// BenchmarkExpositions is what it takes to find an engine's series in a body of its, and
// what expfmt takes to read the whole.
func BenchmarkExpositions(b *testing.B) {
	for name, of := range captures {
		body, err := os.ReadFile("preset/testdata/" + name + ".prom")
		require.NoError(b, err)
		metadata := map[string]string{"scalerAddress": "scaler:9090", "engine": of.engine}
		if p, _ := preset.Lookup(of.engine); p.Target == 0 {
			metadata["target"] = "5"
		}
		if p, _ := preset.Lookup(of.engine); p.Port == 0 {
			metadata["port"] = "8000"
		}
		t, err := trigger.Parse(metadata)
		require.NoError(b, err)
		names := exposition.NewNames(t.Selection.Names())
		b.Run(name+"/scan", func(b *testing.B) {
			b.ReportAllocs()
			var s exposition.Scanner
			for b.Loop() {
				for s.Reset(body, names); s.Next(); {
				}
				require.NoError(b, s.Err())
			}
		})
		b.Run(name+"/expfmt", func(b *testing.B) {
			for b.Loop() {
				p := expfmt.NewTextParser(model.UTF8Validation)
				_, err := p.TextToMetricFamilies(strings.NewReader(string(body)))
				require.NoError(b, err)
			}
		})
	}
}
