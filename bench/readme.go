package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// The marks around the part of the README that a run writes.
const (
	readmeBegin = "<!-- Written by go -C bench run . -->\n"
	readmeEnd   = "<!-- End of what is written. -->\n"
)

// writeReadme writes the tables of the durable store into a README.
func (r *results) writeReadme(file string) error {
	if len(r.Disk) == 0 || len(r.Openings) == 0 {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, began := bytes.Cut(text, []byte(readmeBegin))
	_, after, ended := bytes.Cut(rest, []byte(readmeEnd))
	if !began || !ended {
		return fmt.Errorf("%s lacks the line %q or, behind it, %q", file, strings.TrimSpace(readmeBegin), strings.TrimSpace(readmeEnd))
	}
	all := bytes.Join([][]byte{before, []byte(readmeBegin), []byte(r.diskTables()), []byte(readmeEnd), after}, nil)
	return os.WriteFile(file, all, 0o644)
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
