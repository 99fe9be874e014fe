//go:build race

package sim

// defaultSeeds is lower with the race detector, which makes a run about ten times as long.
const defaultSeeds = 60
