package main

import (
	"context"
	"fmt"
	"slices"
)

// What is measured of a server that keeps messages on disk.
const (
	workAppend  = "publish"
	workKeyed   = "publish, one per key"
	workConsume = "consume"
	workBoth    = "end to end"
	workSingles = "64 senders, a send each"
)

// singleSenders is how many senders workSingles has.
const singleSenders = 64

// diskCell compares two contenders that sync alike.
type diskCell struct {
	Work      string
	Size      int // bytes of a message's data
	Own, Peer string
	Goal      float64 // the least ratio that the project wants; 0 means none
	Rates     [2][]float64
	// Ratios are those of each round, and PerSync is how many sends shared a sync in each.
	Ratios, PerSync []float64
}

// diskCells are all comparisons.
func diskCells() []diskCell {
	cells := []diskCell{
		{Work: workAppend, Size: 100, Own: diskAlways, Peer: peerAlways, Goal: 10},
		{Work: workKeyed, Size: 100, Own: diskAlways, Peer: peerAlways, Goal: 10},
		{Work: workAppend, Size: 1 << 10, Own: diskAlways, Peer: peerAlways, Goal: 10},
		{Work: workAppend, Size: 10 << 10, Own: diskAlways, Peer: peerAlways},
		{Work: workSingles, Size: 100, Own: diskAlways, Peer: peerAlways},
	}
	for _, goals := range []struct {
		size            int
		publish, others float64
	}{{100, 3, 2}, {1 << 10, 2, 2}, {10 << 10, 1.2, 1.2}} {
		cells = append(cells, diskCell{Work: workAppend, Size: goals.size, Own: diskEvery, Peer: peerEvery, Goal: goals.publish})
		if goals.size == 100 {
			cells = append(cells, diskCell{Work: workKeyed, Size: goals.size, Own: diskEvery, Peer: peerEvery, Goal: goals.publish})
		}
		cells = append(cells,
			diskCell{Work: workConsume, Size: goals.size, Own: diskEvery, Peer: peerEvery, Goal: goals.others},
			diskCell{Work: workBoth, Size: goals.size, Own: diskEvery, Peer: peerEvery, Goal: goals.others})
	}
	return cells
}

// Messages in a measurement with a contender that syncs before each answer, and with one that has only single sends.
const (
	maxPeerAlways = 1_000
	maxDiskSingle = 5_000
)

// count is how many messages a contender gets in a measurement. The rate of those that get few does not depend on it.
func (c diskCell) count(name string, opts options) int {
	n := opts.counts[c.Size]
	if c.Work == workSingles {
		n = min(n, maxDiskSingle)
	}
	if name == peerAlways {
		n = min(n, maxPeerAlways)
	}
	return n
}

// measureDisk measures the durable store beside JetStream. The two contenders of a cell take turns, one right after the
// other, because the speed of a disk changes from minute to minute.
func measureDisk(ctx context.Context, opts options, all *results) error {
	all.Disk = diskCells()
	for round := range opts.rounds {
		progress("disk, round %d of %d", round+1, opts.rounds)
		for i := range all.Disk {
			c := &all.Disk[i]
			if err := c.measure(ctx, opts); err != nil {
				return err
			}
		}
	}
	var rows [][]string
	for _, c := range all.Disk {
		rows = append(rows, c.row())
	}
	table("On disk, over loopback, beside JetStream that syncs alike", []string{"size", "work", "sequin", "JetStream", "ratio", "of rounds", "goal", "sends a sync"}, rows)
	return nil
}

// measure measures both contenders of the cell once.
func (c *diskCell) measure(ctx context.Context, opts options) error {
	for i, name := range []string{c.Own, c.Peer} {
		r, perSync, err := onDisk(ctx, *c, name, c.count(name, opts))
		if err != nil {
			return err
		}
		c.Rates[i] = append(c.Rates[i], r)
		if perSync > 0 {
			c.PerSync = append(c.PerSync, perSync)
		}
	}
	last := len(c.Rates[0]) - 1
	c.Ratios = append(c.Ratios, c.Rates[0][last]/c.Rates[1][last])
	return nil
}

func (c *diskCell) row() []string {
	goal, perSync := "", ""
	if c.Goal > 0 {
		goal = fmt.Sprintf("%.1f", c.Goal)
	}
	if c.PerSync != nil {
		perSync = fmt.Sprintf("%.0f", median(c.PerSync))
	}
	return []string{sizeName(c.Size), c.Work + " (" + syncName(c.Own) + ")", thousands(median(c.Rates[0])), thousands(median(c.Rates[1])),
		fmt.Sprintf("%.1f", median(c.Ratios)), spread(c.Ratios), goal, perSync}
}

// spread is the least and the most of several ratios, as text.
func spread(ratios []float64) string {
	least, most := slices.Min(ratios), slices.Max(ratios)
	if least >= 10 {
		return fmt.Sprintf("%.0f–%.0f", least, most)
	}
	return fmt.Sprintf("%.1f–%.1f", least, most)
}

// syncName says how both contenders of a cell sync.
func syncName(own string) string {
	if own == diskAlways {
		return "synced"
	}
	return "100 ms / 2 min"
}
