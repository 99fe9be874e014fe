package console

import (
	"net/url"
	"strconv"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
	"github.com/sequin-go/sequin/server"
)

// streamPage shows a stream.
type streamPage struct {
	overview.Stream
	URL       string
	Created   moment
	Options   []fact
	Consumers []consumerRow
	Metrics   bool
	Messages  messageList

	MaySend, MayAdmin, CanPurge bool
}

// fact is a name with a value.
type fact struct{ Name, Value string }

// messageList is a page of the messages of a stream.
type messageList struct {
	URL              string // of the stream
	Pattern, Problem string
	Rows             []messageRow
	Oldest           bool
	Next, First      string // URLs of the next page and of the first; "" for none
	Searched         seqRange
	Newest, OldestTo string // URLs of the two orders
}

type messageRow struct {
	Seq     int64
	Key     string
	URL     string
	Sent    moment
	Preview string
	Bytes   int64
	Headers int
}

func showStream(v *visit) (*page, error) {
	name := v.r.PathValue("stream")
	d, err := v.watch.Stream(v.r.Context(), name)
	if err != nil {
		return nil, err
	}
	p := &streamPage{
		Stream: d.Stream, URL: streamURL(d.Stream.Name), Created: ago(v.now, d.Stream.InsertedAt), Options: options(&d.Stream.Stream),
		Metrics: d.Server.Metrics, MaySend: v.may(server.CanSend), MayAdmin: v.may(server.CanAdmin), CanPurge: d.Server.Has("purge"),
	}
	for _, c := range d.Consumers {
		p.Consumers = append(p.Consumers, newConsumerRow(d.Stream.Name, c))
	}
	if p.Messages, err = v.messages(d); err != nil {
		return nil, err
	}
	return &page{title: d.Stream.Name, name: "stream", data: p, live: v.r.URL.Query().Get("beyond") == "", crumbs: []crumb{{"Streams", home}}}, nil
}

// options are the settings of a stream that are not the defaults.
func options(s *sequin.Stream) (facts []fact) {
	if s.OneMessagePerKey == nil || *s.OneMessagePerKey {
		facts = append(facts, fact{"Keeps", "the newest message of each key"})
	} else {
		facts = append(facts, fact{"Keeps", "every message"})
	}
	if s.ProcessUnmodified != nil && *s.ProcessUnmodified {
		facts = append(facts, fact{"Unmodified messages", "are delivered again"})
	}
	for _, limit := range []struct {
		name, unit string
		value      *int
	}{{"Retains up to", " messages", s.RetainUpTo}, {"Retains at least", " messages", s.RetainAtLeast}, {"Largest size", " GB", s.MaxStorageGB}} {
		if limit.value != nil && *limit.value > 0 {
			facts = append(facts, fact{limit.name, overview.Number(*limit.value) + limit.unit})
		}
	}
	return facts
}

const (
	// messagesPerPage is how many messages a page shows.
	messagesPerPage = 50
	// bytesPerPage is how much data is read for a page. The API returns whole messages, and a page shows their beginnings.
	bytesPerPage = 4_000_000
)

// perPage returns how many messages of a stream are read for a page: fewer if they are large.
func perPage(s *sequin.Stream) int {
	if s.Stats.MessageCount == 0 {
		return messagesPerPage
	}
	return int(min(messagesPerPage, max(1, bytesPerPage/max(1, s.Stats.StorageSize/s.Stats.MessageCount))))
}

// messages reads the messages that the URL asks for.
func (v *visit) messages(d *overview.Detail) (messageList, error) {
	query := v.r.URL.Query()
	name := d.Stream.Name
	l := messageList{URL: streamURL(name), Pattern: query.Get("pattern"), Oldest: query.Get("order") == "oldest"}
	first := with(query, "beyond", "")
	to := func(q url.Values) string { return href(q, "streams", name) + "#messages" }
	l.Newest, l.OldestTo = to(with(first, "order", "")), to(with(first, "order", "oldest"))
	q := sequin.ListOptions{KeyPattern: l.Pattern, Sort: sequin.SortDescending, Limit: perPage(&d.Stream.Stream)}
	beyond, _ := strconv.ParseInt(query.Get("beyond"), 10, 64)
	beyond = max(0, beyond)
	if q.BeforeSeq = beyond; l.Oldest {
		q.Sort, q.AfterSeq, q.BeforeSeq = sequin.SortAscending, beyond, 0
	}
	if beyond > 0 {
		l.First = to(first)
	}
	var err error
	if l.Pattern != "" && d.Server.Has("paging") {
		if l.Searched, err = limitSearch(&q, v.firstIn(name)); err != nil {
			return l, err
		}
	}
	found, err := v.client.ListMessages(v.r.Context(), name, q)
	if isNoPattern(err) {
		l.Problem, l.Searched = notPattern, seqRange{}
		return l, nil
	}
	if err != nil {
		return l, err
	}
	for i := range found {
		l.Rows = append(l.Rows, v.messageRow(name, &found[i]))
	}
	if len(found) == q.Limit {
		l.Searched = seqRange{next: found[len(found)-1].Seq}
	}
	if l.Searched.Partial() && d.Server.Has("paging") {
		l.Next = to(with(query, "beyond", strconv.FormatInt(l.Searched.next, 10)))
	}
	return l, nil
}

func (v *visit) messageRow(stream string, m *sequin.StoredMessage) messageRow {
	return messageRow{
		Seq: m.Seq, Key: m.Key, URL: messageURL(stream, m.Key, m.Seq), Sent: ago(v.now, m.UpdatedAt), Preview: preview(m.Data),
		Bytes: int64(len(m.Data)), Headers: len(m.Headers),
	}
}
