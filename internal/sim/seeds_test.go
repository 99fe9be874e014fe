//go:build !race

package sim

// defaultSeeds takes less than two minutes on two cores.
const defaultSeeds = 500
