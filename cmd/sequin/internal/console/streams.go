package console

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
	"github.com/sequin-go/sequin/server"
)

// streamsPage shows all streams.
type streamsPage struct {
	Rows            []streamRow
	Columns         []column
	Streams         int // all of them
	Found           int // those that match Query
	Messages, Bytes int64
	In, Out         overview.Rate
	Metrics         bool
	Late            []lateRow
	Query           string
	Sort            string
	Pages           []pageLink
	MayCreate       bool
}

type streamRow struct {
	overview.Stream
	URL string
}

// lateRow is a consumer that has not settled a message for long.
type lateRow struct {
	overview.Load
	URL, Oldest, Why string
}

const (
	// lateAfter is twice the default ack wait: a message that old was not settled in time, or not received.
	lateAfter = time.Minute
	// maxLate is how many of these consumers are shown.
	maxLate = 5
)

// late returns the consumers whose oldest messages have waited longest.
func late(loads []overview.Load) (rows []lateRow) {
	loads = slices.Clone(loads)
	slices.SortStableFunc(loads, func(a, b overview.Load) int { return cmp.Compare(b.OldestAge, a.OldestAge) })
	for _, l := range loads[:min(len(loads), maxLate)] {
		if l.OldestAge < lateAfter {
			break
		}
		why := ""
		switch available := l.Backlog - l.Outstanding - l.Delayed; {
		case l.Delayed >= l.Backlog:
			why = "kept back by nacks with a delay"
		case l.Outstanding == 0 && l.Waiting == 0:
			why = "nobody receives at the moment"
		case available > 0 && l.Waiting == 0:
			why = overview.Number(l.Outstanding) + " on lease, and nobody receives the others at the moment"
		default:
			why = overview.Number(l.Outstanding) + " on lease"
		}
		rows = append(rows, lateRow{l, consumerURL(l.Stream, l.Consumer), overview.Span(l.OldestAge), why})
	}
	return rows
}

// column is the head of a column by which the rows can be sorted.
type column struct {
	Name, URL, Class string
	Order            string // ascending or descending if the rows are sorted by it
}

// pageLink leads to a page of a long list.
type pageLink struct {
	Name, URL string
	Here      bool
}

type order struct {
	name, title, class string
	compare            func(a, b *overview.Stream) int
}

// rowsPerPage is how many streams a page shows. A page with all of 10,000 streams would take seconds in a browser.
const rowsPerPage = 50

// orders are the orders of the streams, by the name in the URL. Each but the first begins with the largest.
var orders = []order{
	{"name", "Stream", "", func(a, b *overview.Stream) int { return strings.Compare(a.Name, b.Name) }},
	{"messages", "Messages", "num wide", func(a, b *overview.Stream) int { return cmp.Compare(b.Stats.MessageCount, a.Stats.MessageCount) }},
	{"backlog", "Backlog", "num", func(a, b *overview.Stream) int { return cmp.Compare(b.Backlog, a.Backlog) }},
	{"size", "Size", "num wide", func(a, b *overview.Stream) int { return cmp.Compare(b.Stats.StorageSize, a.Stats.StorageSize) }},
	{"consumers", "Consumers", "num wide", func(a, b *overview.Stream) int { return cmp.Compare(b.Stats.ConsumerCount, a.Stats.ConsumerCount) }},
	{"in", "In", "num", func(a, b *overview.Stream) int { return cmp.Compare(b.In.Now, a.In.Now) }},
	{"out", "Out", "num", func(a, b *overview.Stream) int { return cmp.Compare(b.Out.Now, a.Out.Now) }},
}

func showStreams(v *visit) (*page, error) {
	all, err := v.watch.Streams(v.r.Context())
	if err != nil {
		return nil, err
	}
	query := v.r.URL.Query()
	p := &streamsPage{
		Streams: len(all.Streams), Metrics: all.Server.Metrics, Query: strings.TrimSpace(query.Get("q")), Sort: query.Get("sort"),
		MayCreate: v.may(server.CanAdmin), Late: late(all.Loads),
	}
	var found []*overview.Stream
	var in, out []overview.Rate
	for i := range all.Streams {
		s := &all.Streams[i]
		p.Messages, p.Bytes = p.Messages+s.Stats.MessageCount, p.Bytes+s.Stats.StorageSize
		in, out = append(in, s.In), append(out, s.Out)
		if strings.Contains(strings.ToLower(s.Name), strings.ToLower(p.Query)) {
			found = append(found, s)
		}
	}
	p.In, p.Out, p.Found = sum(in), sum(out), len(found)
	p.sort(found, query)
	for _, s := range p.cut(found, query) {
		p.Rows = append(p.Rows, streamRow{*s, streamURL(s.Name)})
	}
	return &page{title: "Streams", name: "streams", data: p, live: true}, nil
}

// sort sorts the streams as the URL says, and sets the heads of the columns.
func (p *streamsPage) sort(streams []*overview.Stream, query url.Values) {
	by := max(0, slices.IndexFunc(orders, func(o order) bool { return o.name == p.Sort }))
	slices.SortStableFunc(streams, func(a, b *overview.Stream) int {
		return cmp.Or(orders[by].compare(a, b), strings.Compare(a.Name, b.Name))
	})
	for i, o := range orders {
		c := column{Name: o.title, Class: o.class, URL: href(with(with(query, "sort", o.name), "page", ""))}
		switch {
		case i == by && i == 0:
			c.Order = "ascending"
		case i == by:
			c.Order = "descending"
		}
		p.Columns = append(p.Columns, c)
	}
}

// cut returns the streams of the page that the URL names, and sets the links to the others.
func (p *streamsPage) cut(streams []*overview.Stream, query url.Values) []*overview.Stream {
	pages := max(1, (len(streams)+rowsPerPage-1)/rowsPerPage)
	n, _ := strconv.Atoi(query.Get("page"))
	n = min(max(1, n), pages)
	link := func(name string, to int) {
		p.Pages = append(p.Pages, pageLink{Name: name, URL: href(with(query, "page", strconv.Itoa(to))), Here: to == n && name == strconv.Itoa(n)})
	}
	if pages > 1 {
		for to := max(1, n-2); to <= min(pages, n+2); to++ {
			link(strconv.Itoa(to), to)
		}
		if n > 3 {
			p.Pages = slices.Insert(p.Pages, 0, pageLink{Name: "First", URL: href(with(query, "page", ""))})
		}
		if n < pages-2 {
			link("Last", pages)
		}
	}
	return streams[(n-1)*rowsPerPage : min(len(streams), n*rowsPerPage)]
}
