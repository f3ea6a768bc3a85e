package readme

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

// The dashboard is one that Grafana takes: ids and places of its own for every panel, and
// PromQL that parses. That no query is empty, the end-to-end tests show.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../deploy/grafana/inference-scaler.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			ID                       int
			Type, Title, Description string
			GridPos                  struct{ X, Y, W, H int }
			Targets                  []struct{ RefID, Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	ids, taken := map[int]bool{}, map[[2]int]string{}
	promql := parser.NewParser(parser.Options{})
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], p.Title)
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Empty(t, taken[[2]int{x, y}], "%s lies on another", p.Title)
				taken[[2]int{x, y}] = p.Title
			}
		}
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Description, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			_, err := promql.ParseExpr(strings.ReplaceAll(target.Expr, "$__rate_interval", "1m"))
			require.NoError(t, err, p.Title)
		}
	}
}
