package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
)

// The marks around the parts of the README that a run writes.
const (
	readmeBegin = "<!-- Written by go -C bench run . -only %s -->\n"
	readmeEnd   = "<!-- End of what is written. -->\n"
)

// readmePart is a part of the README.
type readmePart struct {
	mark     string // what follows -only in the first mark
	measured bool
	text     func() string // Markdown
}

// readmeParts returns all parts. One that was not measured is left as it is.
func (r *results) readmeParts() []readmePart {
	return []readmePart{
		{"rates (the client alone)", len(r.Rates) > 0, func() string { return r.rateTable(aloneName) }},
		{"rates (with its server)", len(r.Rates) > 0, func() string { return r.rateTable(wholeName) }},
		{"sinks", len(r.Sinks) > 0, r.sinkTable},
		{"disk, and opening", len(r.Disk) > 0 && len(r.Openings) > 0, r.diskTables},
		{"postgres", len(r.Postgres) > 0, r.postgresTable},
		{"latency", len(r.Latency) > 0, r.latencyTable},
		{"growth", len(r.Growth) > 0, r.growthTable},
		{"json", len(r.JSON) > 0, r.jsonTable},
		{"knobs", len(r.Knobs) > 0, r.knobTable},
		{"link", len(r.Link) > 0, r.linkTable},
	}
}

// writeReadme writes what was measured into a README.
func (r *results) writeReadme(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, p := range r.readmeParts() {
		if !p.measured {
			continue
		}
		if text, err = replaceBetween(text, fmt.Sprintf(readmeBegin, p.mark), p.text); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
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

// noisy is the spread of the rounds from which a figure is marked: the difference between the largest and the smallest, as a part
// of the median, without the best and the worst round.
const noisy = 0.15

// noise returns a mark for a figure whose rounds differ much.
func noise(rounds []float64) string {
	if len(rounds) < 5 {
		return ""
	}
	sorted := slices.Sorted(slices.Values(rounds))
	if least, most := sorted[1], sorted[len(sorted)-2]; (most-least)/median(rounds) <= noisy {
		return ""
	}
	return "~"
}

// tableOf is a table with a row for each contender and a column for each size.
func tableOf(what string, rates []rate, row func(rate) string, ratio func(rate) string) string {
	var names []string
	var sizes []int
	cells := map[string]map[int]rate{}
	for _, x := range rates {
		name := row(x)
		if cells[name] == nil {
			names, cells[name] = append(names, name), map[int]rate{}
		}
		if !slices.Contains(sizes, x.Size) {
			sizes = append(sizes, x.Size)
		}
		cells[name][x.Size] = x
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |", what)
	for _, size := range sizes {
		fmt.Fprintf(&b, " %s |", sizeName(size))
	}
	b.WriteString("\n| --- |" + strings.Repeat(" ---: |", len(sizes)) + "\n")
	for _, name := range names {
		fmt.Fprintf(&b, "| %s |", name)
		for _, size := range sizes {
			x := cells[name][size]
			fmt.Fprintf(&b, " %s%s%s |", noise(x.Rounds), thousands(x.PerSecond), ratio(x))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// ofLimit is the ratio to plain net/http, in brackets.
func ofLimit(x rate) string {
	if x.Contender == limitName || x.OfLimit == 0 {
		return ""
	}
	return fmt.Sprintf(" (%.2f)", x.OfLimit)
}

// ofPeer is the ratio to JetStream in memory, in brackets.
func ofPeer(x rate) string {
	if x.Contender == peerName || x.OfPeer == 0 {
		return ""
	}
	return fmt.Sprintf(" (%.1f×)", x.OfPeer)
}

func (r *results) rateTable(part string) string {
	var rates []rate
	for _, work := range []string{"publish", "consume", "end to end"} {
		for _, x := range r.Rates {
			if x.Part == part && x.Work == work {
				rates = append(rates, x)
			}
		}
	}
	ratio := ofLimit
	if part == wholeName {
		ratio = ofPeer
	}
	return tableOf("messages a second", rates, func(x rate) string { return x.Work + ", " + x.Contender }, ratio)
}

func (r *results) sinkTable() string {
	return tableOf("changes a second", r.Sinks, func(x rate) string { return x.Contender }, ofLimit)
}

func (r *results) latencyTable() string {
	var b strings.Builder
	b.WriteString("| from `Send` to the range loop, on an idle stream | p50 | p99 |\n| --- | ---: | ---: |\n")
	for _, l := range r.Latency {
		fmt.Fprintf(&b, "| %s | %d µs | %d µs |\n", l.Contender, l.P50.Microseconds(), l.P99.Microseconds())
	}
	return b.String()
}

func (r *results) jsonTable() string {
	var b strings.Builder
	b.WriteString("| | a send's body | allocations | a receive's answer | allocations |\n| --- | ---: | ---: | ---: | ---: |\n")
	for _, c := range r.JSON {
		fmt.Fprintf(&b, "| %s | %d ns | %.2f | %d ns | %.2f |\n", c.Codec, c.Encode.Nanoseconds(), c.EncodeAllocs, c.Decode.Nanoseconds(), c.DecodeAllocs)
	}
	return b.String()
}

func (r *results) linkTable() string {
	none := func(rate) string { return "" }
	return tableOf("messages a second", r.Link, func(x rate) string { return x.Work + " " + x.Contender }, none)
}

func (r *results) knobTable() string {
	var b strings.Builder
	b.WriteString("| | messages/s | idle p50 | peak heap |\n| --- | ---: | ---: | ---: |\n")
	for _, k := range r.Knobs {
		fmt.Fprintf(&b, "| %s | %s | %.2f ms | %d MiB |\n", strings.TrimSpace(k.Name+" "+k.Value), thousands(k.PerSecond), k.P50.Seconds()*1000, k.PeakHeap>>20)
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
