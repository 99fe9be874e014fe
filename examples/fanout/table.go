package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/clocks"
)

// table shows where the records went, as counted by the server, the file and the handlers.
type table struct {
	records   int
	published int64 // in the source stream
	rows      []row
	unmatched int // records that match no filter
}

// row shows what became of the records of a branch.
type row struct {
	name, filter string
	matching     uint64
	acked        uint64
	unknown      uint64 // acks whose answer was lost
	nacked       uint64
	done         int // in the second stream, in the file, or booked
	dead         int // dead letters
	where        string
}

func newTable(ctx context.Context, client *sequin.Client, s streams, branches []*branch, all []clocks.Record, europe *archive, asia *ledger) (t table, err error) {
	count := func(name string) int64 {
		stream, e := client.GetStream(ctx, name)
		if e != nil {
			err = e
			return 0
		}
		return stream.Stats.MessageCount
	}
	t.records, t.published = len(all), count(s.source)
	done := []int{int(count(s.lines)), len(europe.keys), len(asia.booked)}
	dead := []int{0, 0, int(count(s.dead))}
	where := []string{"second stream", "file", "booked"}
	t.unmatched = len(all)
	for i, b := range branches {
		stats := b.sub.Stats()
		t.rows = append(t.rows, row{b.name, b.filter, b.matching, stats.Acked, stats.UnknownOutcomes, stats.Nacked, done[i], dead[i], where[i]})
		t.unmatched -= int(b.matching)
	}
	return t, err
}

// check returns the first sum that is wrong, as an error.
func (t table) check() error {
	if t.published != int64(t.records) {
		return fmt.Errorf("%d records, %d in the stream", t.records, t.published)
	}
	sum := t.unmatched
	for _, r := range t.rows {
		if int(r.matching) != r.done+r.dead {
			return fmt.Errorf("%s: %d matching, %d done and %d dead letters", r.name, r.matching, r.done, r.dead)
		}
		sum += r.done + r.dead
	}
	if sum != t.records {
		return fmt.Errorf("%d records, %d accounted for", t.records, sum)
	}
	return nil
}

func (t table) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "consumer\tmatching\tacked\tnacked\tdone\tdead letters\t")
	var done, dead int
	for _, r := range t.rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t  %s\n", r.filter, r.matching, r.acked, r.nacked, r.done, r.dead, r.where)
		done += r.done
		dead += r.dead
	}
	w.Flush()
	fmt.Fprintf(out, "\n%d done + %d dead letters + %d without a consumer = %d of %d records\n",
		done, dead, t.unmatched, done+dead+t.unmatched, t.published)
	if err := t.check(); err != nil {
		fmt.Fprintln(out, "the counts do not add up:", err)
	}
}
