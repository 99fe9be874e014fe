package crashfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// sector is the size of what reaches the disk whole or not at all.
const sector = 512

// node is the contents of a file.
type node struct {
	data   []byte
	synced []byte
	dirty  map[int64]bool // the sectors that differ
}

func newNode() *node { return &node{dirty: map[int64]bool{}} }

// sync makes what is written survive.
func (n *node) sync() {
	n.synced = resized(n.synced, len(n.data))
	for s := range n.dirty {
		if from := s * sector; from < int64(len(n.data)) {
			copy(n.synced[from:min(from+sector, int64(len(n.synced)))], n.data[from:])
		}
	}
	clear(n.dirty)
}

// crash returns what is left after a loss of power.
func (n *node) crash(keep float64, random *rand.Rand) *node {
	left := slices.Clone(n.synced)
	if random.Float64() < keep {
		left = resized(left, len(n.data))
	}
	for _, s := range slices.Sorted(maps.Keys(n.dirty)) {
		if from := s * sector; random.Float64() < keep && from < int64(len(left)) && from < int64(len(n.data)) {
			copy(left[from:min(from+sector, int64(len(left)))], n.data[from:])
		}
	}
	return &node{data: left, synced: slices.Clone(left), dirty: map[int64]bool{}}
}

// touch notes that bytes are not synced.
func (n *node) touch(from, to int64) {
	for s := from / sector; s*sector < to; s++ {
		n.dirty[s] = true
	}
}

// resize cuts the file or adds zeros.
func (n *node) resize(size int64) {
	before := int64(len(n.data))
	n.data = resized(n.data, int(size))
	n.touch(min(before, size), max(before, size))
}

// resized returns b with that length; new bytes are 0.
func resized(b []byte, size int) []byte {
	if size > cap(b) {
		return append(b, make([]byte, size-len(b))...)
	}
	grown := b[:size]
	if size > len(b) {
		clear(grown[len(b):])
	}
	return grown
}

// change is a change of names: name holds node from then on, or nothing when node is nil.
type change struct {
	name string
	node *node
	also string // the name that a rename takes away
}

func (c change) apply(names map[string]*node) {
	if c.node == nil {
		delete(names, c.name)
	} else {
		names[c.name] = c.node
	}
	if c.also != "" {
		delete(names, c.also)
	}
}
