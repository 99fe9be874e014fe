//go:build race

package sequin_test

// changesOfARow is lower with the race detector, which makes the tests about ten times as long.
const changesOfARow = 10
