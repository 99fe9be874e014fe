package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/server/durable"
)

// printReport prints what was found in a data directory, as one JSON object or as text.
func printReport(out io.Writer, dir string, r durable.Report, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s: store %s with %s, %s, %s, %s\n", dir, r.Store,
		cli.Plural(r.Segments, "segment"), cli.Plural(r.Snapshots, "snapshot"), cli.Plural(r.Records, "record"), cli.Plural(r.Bytes, "byte"))
	if r.Torn > 0 {
		fmt.Fprintf(&text, "%s at the end were being written when the store stopped; that is no fault\n", cli.Plural(r.Torn, "byte"))
	}
	if len(r.Streams) > 0 {
		fmt.Fprintln(&text)
		table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "STREAM\tMESSAGES\tCONSUMERS\tLOST")
		for _, s := range r.Streams {
			fmt.Fprintf(table, "%s\t%d\t%d\t%s\n", s.Name, s.Messages, s.Consumers, lost(s.Lost))
		}
		_ = table.Flush() // a strings.Builder never fails
	}
	fmt.Fprintln(&text)
	if len(r.Faults) == 0 {
		fmt.Fprintln(&text, "no faults")
	}
	for _, f := range r.Faults {
		fmt.Fprintf(&text, "fault: %s at offset %d", f.File, f.Offset)
		if f.Size > 0 {
			fmt.Fprintf(&text, ", %s", cli.Plural(f.Size, "byte"))
		}
		fmt.Fprintf(&text, ": %s\n", f.Text)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// lost lists ranges of seqs.
func lost(ranges []durable.SeqRange) string {
	if len(ranges) == 0 {
		return "none"
	}
	var out []string
	for _, r := range ranges {
		if r.First == r.Last {
			out = append(out, fmt.Sprintf("seq %d", r.First))
		} else {
			out = append(out, fmt.Sprintf("seq %d to %d", r.First, r.Last))
		}
	}
	return strings.Join(out, ", ")
}
