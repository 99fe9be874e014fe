//go:build !race

package sim

// defaultSeeds take less than two minutes on two cores.
const defaultSeeds = 500
