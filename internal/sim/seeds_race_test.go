//go:build race

package sim

// defaultSeeds are fewer under the race detector, which makes a run some ten times as long.
const defaultSeeds = 60
