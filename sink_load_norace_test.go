//go:build !race

package sequin_test

// changesOfARow makes 100,000 changes of 1,000 rows, which take a few seconds.
const changesOfARow = 100
