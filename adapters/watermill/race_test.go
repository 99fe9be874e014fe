//go:build race

package watermillsequin_test

const raceEnabled = true
