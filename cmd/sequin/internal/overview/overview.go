// Package overview says what a person wants to know of a server first: what happens, what is stuck, and since when. The terminal
// of "sequin observe" and the pages of the console show it.
//
// A Watcher asks the API, and the metrics of a server that has them. From the counts of one question and the next it computes
// rates, and keeps the last of them for sparklines. It starts no goroutine: who shows a page asks every few seconds.
package overview

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin"
)

// Defaults of Config.
const (
	// DefaultHistory is how many rates are kept: at one every 2 s those of two minutes, which is about what a sparkline of a narrow
	// terminal has room for.
	DefaultHistory = 60
	// DefaultMinInterval is how long an answer is given again. Several pages that show the same cost one question.
	DefaultMinInterval = time.Second
)

// Config configures a Watcher.
type Config struct {
	// Client asks the API. It is required, and not closed.
	Client *sequin.Client
	// Metrics asks for metrics; default nil: the server has none, and what only they tell is unknown.
	Metrics MetricsSource
	// History is how many rates are kept of each stream and consumer; default DefaultHistory.
	History int
	// MinInterval is how long an answer is given again; default DefaultMinInterval.
	MinInterval time.Duration
}

// Watcher watches a server. All its methods may be called concurrently.
type Watcher struct {
	cfg Config

	server  answer[Server]
	streams answer[*Streams]
	changes atomic.Int64

	mu      sync.Mutex         // guards what follows; never held while a question is asked
	details map[string]*detail // by the name of a stream, or its id
	rates   map[string]*meter
}

// New returns a Watcher.
func New(cfg Config) *Watcher {
	if cfg.History <= 0 {
		cfg.History = DefaultHistory
	}
	if cfg.MinInterval <= 0 {
		cfg.MinInterval = DefaultMinInterval
	}
	return &Watcher{
		cfg: cfg, server: newAnswer[Server](), streams: newAnswer[*Streams](), details: map[string]*detail{}, rates: map[string]*meter{},
	}
}

// Server is what is known of the server.
type Server struct {
	Kind sequin.ServerKind
	// Extensions are the names in the Sequin-Extensions header, such as "purge", "paging", "nack-delay" and "headers".
	Extensions []string
	// Metrics says that the server has metrics, and that the token may read them. Without them rates of deliveries, backlogs and
	// leases are unknown.
	Metrics bool
	// RoundTrip is the time that a request took when the server was asked for its kind, at most a minute ago.
	RoundTrip time.Duration
}

// Has reports whether the server announces an extension.
func (s Server) Has(extension string) bool {
	return slices.Contains(s.Extensions, extension)
}

// Streams is what is known of all streams at a moment. It must not be changed: others get the same.
type Streams struct {
	At      time.Time
	Server  Server
	Streams []Stream // by name
	// Loads are the consumers with the largest backlogs, the largest first: those that the metrics tell of, at most 100. Of a
	// stream that is called "other" they tell nothing.
	Loads []Load
}

// Stream is a stream.
type Stream struct {
	sequin.Stream
	// In and Out are messages a second: those that were sent to the stream, and those that its consumers were delivered. Without
	// metrics In is what the number of messages grew by, and Out is unknown.
	In, Out Rate
	// Backlog is the largest backlog of a consumer of the stream. It is known where the metrics tell it, and only with all streams.
	Backlog      int64
	BacklogKnown bool
}

// Rate is a number a second.
type Rate struct {
	// Known is false before the second question, and where the server does not tell. Now is then 0 and History empty.
	Known bool
	// Now is the rate between the last two questions.
	Now float64
	// History has the last rates, oldest first, Now included.
	History []float64
}

// Detail is what is known of one stream at a moment. It must not be changed: others get the same.
type Detail struct {
	At        time.Time
	Server    Server
	Stream    Stream
	Consumers []Consumer // in the order of their creation
}

// Consumer is a consumer.
type Consumer struct {
	sequin.Consumer

	// Measured says that the server has told Backlog, Outstanding, Delayed and Waiting. Otherwise they are 0, and the rates below
	// are not known.
	Measured bool
	// Backlog counts the messages that the consumer has to get and has not settled, those on lease included.
	Backlog int64
	// Estimated says that Backlog is an estimate: of a consumer whose filter leaves messages out, and that has not read all.
	Estimated bool
	// Outstanding counts the messages on lease, Delayed those that a nack keeps back, and Waiting the receives that wait.
	Outstanding, Delayed, Waiting int64

	// OldestKnown says that the age of the oldest unsettled message is known. It is 0 if there is none.
	OldestKnown bool
	OldestAge   time.Duration

	// Deliveries, Redeliveries, Acks and Nacks are messages a second.
	Deliveries, Redeliveries, Acks, Nacks Rate
}

// RedeliveryShare returns which part of the deliveries between the last two questions were not the first of their message, from
// 0 to 1.
func (c Consumer) RedeliveryShare() float64 {
	if c.Deliveries.Now <= 0 {
		return 0
	}
	return min(1, c.Redeliveries.Now/c.Deliveries.Now)
}

// Streams returns what is known of all streams. Rates, backlogs and leases are known of those that the server names in its
// metrics: the 100 largest streams, and 100 that were used. An answer that is younger than Config.MinInterval is given again. An error is
// that of the API; if only the metrics fail, Server.Metrics is false.
func (w *Watcher) Streams(ctx context.Context) (*Streams, error) { return w.askStreams(ctx) }

// Stream returns what is known of a stream and its consumers, as Streams does. The error is sequin.ErrNotFound for one that does
// not exist.
func (w *Watcher) Stream(ctx context.Context, name string) (*Detail, error) {
	return w.askStream(ctx, name)
}

// Changed says that the caller has changed something: no answer from before is given again.
func (w *Watcher) Changed() { w.changes.Add(1) }

// Query asks for messages.
type Query struct {
	Pattern string // of their keys; "" for all
	Oldest  bool   // first; otherwise the newest come first
	// Beyond asks for those behind the message with this seq in that order; 0 for the first. A server without the extension
	// paging has no more than the first.
	Beyond int64
	Limit  int // 1 to 10,000; default 100
}

// Messages returns messages of a stream.
func (w *Watcher) Messages(ctx context.Context, stream string, q Query) ([]sequin.StoredMessage, error) {
	return w.cfg.Client.ListMessages(ctx, stream, q.options())
}

// Unsettled returns messages that a consumer has not settled, always the oldest first: that is what is stuck. A server would have to
// look at the whole backlog for the newest.
func (w *Watcher) Unsettled(ctx context.Context, stream, consumer string, q Query) ([]sequin.PeekedMessage, error) {
	q.Oldest = true
	return w.cfg.Client.PeekMessages(ctx, stream, consumer, q.options())
}

func (q Query) options() sequin.ListOptions {
	o := sequin.ListOptions{Limit: q.Limit, Sort: sequin.SortDescending, KeyPattern: q.Pattern}
	if q.Oldest {
		o.Sort, o.AfterSeq = sequin.SortAscending, q.Beyond
	} else {
		o.BeforeSeq = q.Beyond
	}
	return o
}

// Message returns the newest message of a key with its state at each consumer whose filter matches.
func (w *Watcher) Message(ctx context.Context, stream, key string) (*sequin.MessageInfo, error) {
	return w.cfg.Client.MessageInfo(ctx, stream, key)
}

// MessageAt returns the message of a key that has a seq, with its states as Message does. newest is the seq of the newest message of the key. The
// error is sequin.ErrNotFound if the message was replaced, purged or dropped. A server without the extension paging has one
// message of each key, which is returned.
func (w *Watcher) MessageAt(ctx context.Context, stream, key string, seq int64) (info *sequin.MessageInfo, newest int64, err error) {
	if info, err = w.Message(ctx, stream, key); err != nil {
		return nil, 0, err
	}
	if newest = info.Message.Seq; newest == seq {
		return info, newest, nil
	}
	only := sequin.ListOptions{Limit: 1, KeyPattern: key, AfterSeq: seq - 1, BeforeSeq: seq + 1}
	older, err := w.cfg.Client.ListMessages(ctx, stream, only)
	switch {
	case errors.Is(err, sequin.ErrUnsupported):
		return info, newest, nil
	case err != nil:
		return nil, newest, err
	case len(older) == 0:
		return nil, newest, fmt.Errorf("%w: the message with the seq %d was replaced, purged or dropped; the newest of its key has the seq %d", sequin.ErrNotFound, seq, newest)
	}
	info.Message = older[0]
	for i := range info.Consumers {
		c := &info.Consumers[i]
		peeked, err := w.cfg.Client.PeekMessages(ctx, stream, c.ConsumerID, only)
		if err != nil {
			return nil, newest, err
		}
		c.DeliveryInfo = sequin.DeliveryInfo{State: sequin.StateAcked}
		if len(peeked) > 0 {
			c.DeliveryInfo = peeked[0].Info
		}
	}
	return info, newest, nil
}
