//go:build !race

package sequin_test

const (
	// changesOfARow makes 100,000 changes of 1,000 rows, which take a few seconds.
	changesOfARow = 100
	// randomServers is how many random servers a Publisher meets. Ten of them take about a second.
	randomServers = 100
)
