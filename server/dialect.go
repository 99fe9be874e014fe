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
	// requests get a 500 without a summary.
	Aug2024
)

func (c Compat) String() string { return pick(c, "documented", "aug2024") }

// dialect holds every difference between the two behaviours, except those inside the store, which has a dialect of its
// own. No other code asks for the Compat. To add a difference, add a field here and its row to the table in newDialect.
type dialect struct {
	newStore func() *store.Memory

	// Names and patterns.
	dashesInNames bool     // names of streams and consumers may contain dashes
	checkPatterns bool     // a malformed filter_key_pattern is refused; otherwise it matches nothing
	consumerTaken *failure // the answer to a consumer's name that its stream has already

	// Streams and consumers.
	streamOptions bool                         // streams have options: they are read and shown
	updateStream  *failure                     // the answer to PUT and PATCH of a stream
	storageSize   func(bytes int64) int64      // the storage_size of a stream
	sortStreams   func(all []store.StreamInfo) // brings a list of streams, newest first, into the order of the answer
	sortConsumers func(all []store.ConsumerInfo)

	// Sending. The store decides what happens to a key that occurs twice: see internal/store/send_plan.go.
	maxMessages       int  // in one request
	maxBindParameters int  // in one statement of the database; a request that needs more gets a 500
	unprintableKeys   bool // keys that are not printable ASCII are not refused but get a 500 from the database
	removeNUL         bool // NUL is removed from data, instead of refused
	idempotencyKeys   bool // Idempotency-Key headers are read

	extensions []string // announced in Sequin-Extensions headers

	// Receiving and settling.
	findConsumer     func(ctx context.Context, s store.Store, stream, consumer string) (store.Consumer, error)
	longPoll         bool     // wait_for is supported
	fractionalBatch  *failure // the answer to a batch_size with a fraction or an exponent
	waitedHeader     bool     // an answer has Sequin-Waited-Ms
	deliverCount     bool     // a delivery has deliver_count
	returnUnsent     bool     // messages that could not be written to the client are returned
	undashedIDs      *failure // the answer to an ack id without dashes
	undeliveredNacks bool     // "undelivered" of a nack is read
}

// noLimit is a limit that no request reaches.
const noLimit = math.MaxInt

func newDialect(c Compat) dialect {
	return dialect{
		// pick(c, what Documented does, what Aug2024 does)
		newStore: pick(c, store.NewMemory, store.NewAug2024),

		dashesInNames: pick(c, true, false),
		checkPatterns: pick(c, true, false),
		consumerTaken: pick(c, invalidField("name", taken), invalidField("stream_id", "Consumer name must be unique within a stream")),

		streamOptions: pick(c, true, false),
		updateStream:  pick(c, errNoRoute, errInternal), // the 2024 server has the route, but no code for it
		storageSize:   pick(c, exactSize, tableSize),
		sortStreams:   pick(c, keepOrder[store.StreamInfo], sortByCreationSecond),
		sortConsumers: pick(c, keepOrder[store.ConsumerInfo], sortByName),

		maxMessages:       pick(c, 1_000, noLimit), // 1,000 by the documentation
		maxBindParameters: pick(c, noLimit, 65_535),
		unprintableKeys:   pick(c, false, true),
		removeNUL:         pick(c, false, true),
		idempotencyKeys:   pick(c, true, false),

		extensions: pick(c, allExtensions, nil),

		findConsumer:     pick(c, findInStream, findAnywhere),
		longPoll:         pick(c, true, false),
		fractionalBatch:  pick(c, errBatchSize, errInternal),
		waitedHeader:     pick(c, true, false),
		deliverCount:     pick(c, true, false),
		returnUnsent:     pick(c, true, false),
		undashedIDs:      pick(c, errAckIDs, errBadCast), // the 2024 server accepts such ids, its database does not
		undeliveredNacks: pick(c, true, false),
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
