package main

import (
	"fmt"
	"strings"
	"time"
)

var postgresHeader = []string{"messages/s", "SQL of 2024", "1 replica", "ratio", "of rounds", "4 replicas", "ratio", "of rounds", "goal"}

// row describes a cell as text.
func (c *postgresCell) row() []string {
	row := []string{c.name(), rateText(c.SQL)}
	for _, replicas := range replicaCounts {
		of := c.Store[replicas]
		if len(of) == 0 {
			row = append(row, "", "", "")
			continue
		}
		ratios := c.ratios(replicas)
		row = append(row, rateText(of), times(median(ratios)), spread(ratios))
	}
	return append(row, fmt.Sprintf("%.0f", c.Goal))
}

// ratios are those of each round.
func (c *postgresCell) ratios(replicas int) (all []float64) {
	for i, r := range c.Store[replicas] {
		all = append(all, r.PerSecond/c.SQL[i].PerSecond)
	}
	return all
}

func times(ratio float64) string {
	if ratio >= 10 {
		return fmt.Sprintf("%.0f×", ratio)
	}
	return fmt.Sprintf("%.1f×", ratio)
}

// rateText is the median rate, with the median times of single requests.
func rateText(of []stored) string {
	var rates []float64
	var p50, p99 []time.Duration
	for _, r := range of {
		rates, p50, p99 = append(rates, r.PerSecond), append(p50, r.P50), append(p99, r.P99)
	}
	text := thousands(median(rates))
	if m := median(p50); m > 0 {
		text += fmt.Sprintf(" (p50 %.1f ms, p99 %.0f ms)", m.Seconds()*1000, median(p99).Seconds()*1000)
	}
	return text
}

// postgresTable is the table in Markdown.
func (r *results) postgresTable() string {
	var b strings.Builder
	b.WriteString("| messages a second | SQL of 2024 | 1 replica | ratio (rounds) | 4 replicas | ratio (rounds) |\n| --- | ---: | ---: | ---: | ---: | ---: |\n")
	for i := range r.Postgres {
		row := r.Postgres[i].row()
		fmt.Fprintf(&b, "| %s | %s |", row[0], row[1])
		for k := 2; k < 8; k += 3 {
			if row[k] == "" {
				b.WriteString(" – | – |")
				continue
			}
			fmt.Fprintf(&b, " %s | %s (%s) |", row[k], row[k+1], row[k+2])
		}
		b.WriteString("\n")
	}
	return b.String()
}
