package server

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Compat selects the behaviour of a Server.
type Compat int

const (
	// Documented behaves as Sequin's documentation says.
	Documented Compat = iota
	// Aug2024 behaves as the server of August 2024 was recorded: it has no long poll and ignores stream options, a
	// message always replaces the one with its key, batches are stored in reverse, ack ids never change, and some
	// requests get a 500 without a summary, after which the connection is closed. It reads queries, forms and JSON, casts
	// values, checks them in an order and negotiates Accept headers as that server's web framework and database do. It has
	// the stream "default" from the start. It has no push consumers.
	Aug2024
)

// String returns the name of the behaviour.
func (c Compat) String() string { return pick(c, "documented", "aug2024") }

// dialect holds every difference between the two behaviours, except those inside the store, which has a dialect of its
// own. No other code asks for the Compat. To add a difference, add a field here and its row to the table in newDialect.
type dialect struct {
	newStore func() *store.Memory

	// Every request.
	plug      bool                             // requests are read as by Plug, the framework of the 2024 server
	ref       func(ref string) (string, error) // reads the id or the name of a stream or a consumer in a path
	checkText func(text string) error          // what the database says of a text that it looks for

	// Streams and consumers.
	streams       []string // that a new server has
	streamOptions bool     // streams have options
	readStream    func(p params, gigabyte int64) (store.StreamOptions, error)
	streamTaken   *failure                     // the answer to the name of another stream
	updateStream  *failure                     // the answer to PUT and PATCH of a stream
	storageSize   func(bytes int64) int64      // the storage_size of a stream
	sortStreams   func(all []store.StreamInfo) // brings a list of streams, newest first, into the order of the answer
	sortConsumers func(all []store.ConsumerInfo)
	readConsumer  func(p params) (o store.ConsumerOptions, linked bool, err error) // linked: it names an endpoint
	consumerTaken *failure                                                         // the answer to the name of another consumer
	readLimits    func(p params, l *store.ConsumerLimits) error
	maxDeliver    func(n int) *int // the max_deliver that is shown

	// Sending. The store decides what happens to a key that occurs twice: see internal/store/send_plan.go.
	lastFirst         bool // messages are checked from the last to the first
	maxMessages       int  // in one request
	maxBindParameters int  // in one statement of the database; a request that needs more gets a 500
	unprintableKeys   bool // keys that are not printable ASCII are not refused but get a 500 from the database
	removeNUL         bool // NUL is removed from data, instead of refused
	idempotencyKeys   bool // Idempotency-Key headers are read

	extensions []string // announced in Sequin-Extensions headers

	// Receiving, settling and listing.
	findConsumer func(ctx context.Context, s store.Store, stream, consumer string) (store.Consumer, error)
	batchSize    func(v any) (int, error)    // reads a batch_size
	headReceives bool                        // a HEAD of a receive leases messages
	longPoll     bool                        // wait_for is supported
	waitedHeader bool                        // an answer has Sequin-Waited-Ms
	returnUnsent bool                        // messages that could not be written to the client are returned
	readLimit    func(v any) (int, error)    // reads the limit of a list
	readPattern  func(v any) (string, error) // reads the key_pattern of a list
}

// noLimit is a limit that no request reaches.
const noLimit = math.MaxInt

func newDialect(c Compat) dialect {
	return dialect{
		// pick(c, what Documented does, what Aug2024 does)
		newStore: pick(c, store.NewMemory, store.NewAug2024),

		plug:      pick(c, false, true),
		ref:       pick(c, anyRef, plugRef),
		checkText: pick(c, anyText, databaseText),

		streams:       pick(c, nil, []string{"default"}),
		streamOptions: pick(c, true, false),
		readStream:    pick(c, readStream, castStream),
		streamTaken:   pick(c, refusedField("name", taken), invalidField("name", taken)),
		updateStream:  pick(c, errNoRoute, errInternal), // the 2024 server has the route, but no code for it
		storageSize:   pick(c, exactSize, tableSize),
		sortStreams:   pick(c, keepOrder[store.StreamInfo], sortByCreationSecond),
		sortConsumers: pick(c, keepOrder[store.ConsumerInfo], sortByName),
		readConsumer:  pick(c, readConsumer, castConsumer),
		consumerTaken: pick(c, refusedField("name", taken), invalidField("stream_id", "Consumer name must be unique within a stream")),
		readLimits:    pick(c, readLimits, castLimits),
		maxDeliver:    pick(c, orNull, showDeliver),

		lastFirst:         pick(c, false, true),
		maxMessages:       pick(c, 1_000, noLimit), // 1,000 by the documentation
		maxBindParameters: pick(c, noLimit, 65_535),
		unprintableKeys:   pick(c, false, true),
		removeNUL:         pick(c, false, true),
		idempotencyKeys:   pick(c, true, false),

		extensions: pick(c, allExtensions, nil),

		findConsumer: pick(c, findInStream, findAnywhere),
		batchSize:    pick(c, readBatchSize, plugBatchSize),
		headReceives: pick(c, false, true),
		longPoll:     pick(c, true, false),
		waitedHeader: pick(c, true, false),
		returnUnsent: pick(c, true, false),
		readLimit:    pick(c, readLimit, plugLimit),
		readPattern:  pick(c, readPattern, plugPattern),
	}
}

func pick[T any](c Compat, documented, aug2024 T) T {
	if c == Aug2024 {
		return aug2024
	}
	return documented
}

func exactSize(bytes int64) int64 { return bytes }

// tableSize is the storage that the 2024 server shows: that of an empty table, and whole database pages.
func tableSize(bytes int64) int64 {
	const emptyTable, page = 163_840, 8_192
	return emptyTable + bytes/page*page
}

func keepOrder[T any]([]T) {}

// sortByCreationSecond sorts newest first by the time in whole seconds. Within one second the 2024 server lists the oldest
// first.
func sortByCreationSecond(all []store.StreamInfo) {
	slices.Reverse(all)
	slices.SortStableFunc(all, func(a, b store.StreamInfo) int { return cmp.Compare(b.InsertedAt.Unix(), a.InsertedAt.Unix()) })
}

func sortByName(all []store.ConsumerInfo) {
	slices.SortFunc(all, func(a, b store.ConsumerInfo) int { return strings.Compare(a.Name, b.Name) })
}

// findInStream finds the consumer in the stream of the request's path.
func findInStream(ctx context.Context, s store.Store, stream, consumer string) (store.Consumer, error) {
	found, err := s.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	return found.Consumer(ctx, consumer)
}

// findAnywhere ignores the stream of the request's path, as the 2024 server does for receive, ack and nack.
func findAnywhere(ctx context.Context, s store.Store, _, consumer string) (store.Consumer, error) {
	return s.Consumer(ctx, consumer)
}
