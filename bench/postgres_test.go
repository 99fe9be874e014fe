package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTheTableOfPostgresHasTheMediansOfEachRound writes two cells into a README.
func TestTheTableOfPostgresHasTheMediansOfEachRound(t *testing.T) {
	r := results{Postgres: []postgresCell{
		{Work: "append", Size: 1 << 10, Consumers: 3, Goal: 5, SQL: []stored{{PerSecond: 100}, {PerSecond: 200}, {PerSecond: 300}},
			Store: map[int][]stored{1: {{PerSecond: 2000}, {PerSecond: 1000}, {PerSecond: 3000}}, 4: {{PerSecond: 100}, {PerSecond: 200}, {PerSecond: 1500}}}},
		{Work: "upsert", Size: 100, Consumers: 1, SQL: []stored{{PerSecond: 1000, P50: 1500 * time.Microsecond, P99: 20 * time.Millisecond}},
			Store: map[int][]stored{1: {{PerSecond: 4000}}}},
	}}
	file := filepath.Join(t.TempDir(), "README.md")
	require.NoError(t, os.WriteFile(file, []byte("before\n"+fmt.Sprintf(readmeBegin, "postgres")+"old\n"+readmeEnd+"after\n"), 0o644))
	require.NoError(t, r.writeReadme(file))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), "| publish, 1 KiB, 3 consumers | 200 | 2,000 | 10× (5.0–20.0) | 200 | 1.0× (1.0–5.0) |\n")
	require.Contains(t, string(text), "| publish, one per key, 30 % known, 100 B | 1,000 (p50 1.5 ms, p99 20 ms) | 4,000 | 4.0× (4.0–4.0) | – | – |\n")
	require.NotContains(t, string(text), "old\n")
	require.True(t, strings.HasSuffix(string(text), readmeEnd+"after\n"))
}

// TestEachWorkOnPostgresHasAName also holds that each has numbers of messages.
func TestEachWorkOnPostgresHasAName(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range postgresCells(options{keys: 7}) {
		require.NotEmpty(t, postgresWorks[c.Work])
		require.NotZero(t, postgresCounts[c.Work])
		require.Positive(t, c.Goal)
		require.False(t, seen[c.name()], c.name())
		seen[c.name()] = true
	}
	require.Len(t, seen, 15)
}
