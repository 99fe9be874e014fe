package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// The marks around the parts of the README that a run writes.
const (
	readmeBegin = "<!-- Written by go -C bench run . -->\n"
	readmeSinks = "<!-- Written by go -C bench run . -only sinks -->\n"
	readmeEnd   = "<!-- End of what is written. -->\n"
)

// writeReadme writes the tables of the durable store and of sinks into a README, as far as they were measured.
func (r *results) writeReadme(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if len(r.Disk) > 0 && len(r.Openings) > 0 {
		text, err = replaceBetween(text, readmeBegin, r.diskTables)
	}
	if err == nil && len(r.Sinks) > 0 {
		text, err = replaceBetween(text, readmeSinks, r.sinkTable)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, text, 0o644)
}

// replaceBetween replaces what is between a mark and the next readmeEnd by a table.
func replaceBetween(text []byte, begin string, table func() string) ([]byte, error) {
	before, rest, began := bytes.Cut(text, []byte(begin))
	_, after, ended := bytes.Cut(rest, []byte(readmeEnd))
	if !began || !ended {
		return nil, fmt.Errorf("it lacks the line %q or, behind it, %q", strings.TrimSpace(begin), strings.TrimSpace(readmeEnd))
	}
	return bytes.Join([][]byte{before, []byte(begin), []byte(table()), []byte(readmeEnd), after}, nil), nil
}

// sinkTable is the table of sinks in Markdown.
func (r *results) sinkTable() string {
	cells := map[string]map[int]rate{}
	for _, x := range r.Sinks {
		if cells[x.Contender] == nil {
			cells[x.Contender] = map[int]rate{}
		}
		cells[x.Contender][x.Size] = x
	}
	var b strings.Builder
	b.WriteString("| changes a second | 100 B | 1 KiB |\n| --- | ---: | ---: |\n")
	for _, name := range []string{limitName, changeName, largeName, stdlibName, noneName} {
		fmt.Fprintf(&b, "| %s |", name)
		for _, size := range sinkSizes {
			x := cells[name][size]
			fmt.Fprintf(&b, " %s", thousands(x.PerSecond))
			if name != limitName {
				fmt.Fprintf(&b, " (%.2f)", x.OfLimit)
			}
			b.WriteString(" |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// diskTables are the tables of the durable store in Markdown.
func (r *results) diskTables() string {
	var b strings.Builder
	for _, own := range []string{diskAlways, diskEvery} {
		if own == diskEvery {
			b.WriteString("\n")
		}
		peer := peerAlways
		if own == diskEvery {
			peer = peerEvery
		}
		fmt.Fprintf(&b, "| messages a second | %s | %s | ratio (rounds) |\n| --- | ---: | ---: | ---: |\n", own, peer)
		for _, c := range r.Disk {
			if c.Own == own {
				fmt.Fprintf(&b, "| %s, %s | %s | %s | %s |\n", c.Work, sizeName(c.Size), thousands(median(c.Rates[0])),
					thousands(median(c.Rates[1])), c.ratio())
			}
		}
	}
	b.WriteString("\n| opening after a kill, 100 B | time (rounds) | disk a message | memory then | memory after storing |\n| --- | ---: | ---: | ---: | ---: |\n")
	for _, o := range r.Openings {
		row := o.row()
		fmt.Fprintf(&b, "| %s messages, %s | %s (%s) | %s | %s | %s |\n", row[0], row[1], row[2], row[3], row[4], row[5], row[6])
	}
	if s := r.perSync(); s != "" {
		b.WriteString("\n" + s + "\n")
	}
	return b.String()
}

// ratio is the median ratio of a cell and its spread.
func (c *diskCell) ratio() string {
	if m := median(c.Ratios); m >= 10 {
		return fmt.Sprintf("%.0f× (%s)", m, spread(c.Ratios))
	}
	return fmt.Sprintf("%.1f× (%s)", median(c.Ratios), spread(c.Ratios))
}

// perSync says how many single sends shared a sync.
func (r *results) perSync() string {
	for _, c := range r.Disk {
		if c.PerSync != nil {
			return fmt.Sprintf("Of %d senders with one message each, %.0f sends shared a sync.", singleSenders, median(c.PerSync))
		}
	}
	return ""
}
