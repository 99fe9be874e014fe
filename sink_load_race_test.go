//go:build race

package sequin_test

// changesOfARow is lower with the race detector, which makes the tests about ten times as long.
const changesOfARow = 10

// The random tests draw fewer runs with the race detector, for the same reason.
const (
	defaultModelSeeds = 12
	busyStopRounds    = 5
	programRuns       = 1
)
