package serve

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

// TestTheQueriesOfTheClientsDashboardParse is here because this module has the parser. Package promsequin checks that their metrics
// and labels exist.
func TestTheQueriesOfTheClientsDashboardParse(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "deploy", "grafana", "clients.json"))
	require.NoError(t, err)
	var d struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	require.NoError(t, json.Unmarshal(text, &d))
	queries := 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			queries++
			_, err := parser.NewParser(parser.Options{}).ParseExpr(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
			require.NoError(t, err, target.Expr)
		}
	}
	require.Greater(t, queries, 30)
}
