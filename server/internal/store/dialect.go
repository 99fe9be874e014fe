package store

import "sync/atomic"

// dialect holds every difference between the documented store and the store of the 2024 server. NewMemory and
// NewAug2024 choose one, and no other code asks which it is. To add a difference, add a field here and its value to the
// two dialects below.
type dialect struct {
	// newTables returns the tables of a new store, which limit the names; nil for no limits.
	newTables func() *tables
	// options returns the options of a new stream.
	options func(StreamOptions) StreamOptions
	// sharedSeq makes all streams of a store take their seqs from one sequence.
	sharedSeq bool
	// plan decides how the messages of one send are stored, and what happens to a key that occurs twice in it.
	plan func(newest *keyIndex, o StreamOptions, messages []Message) (batch, error)
	// newBacklog returns the backlog of a new consumer: how its messages are leased and settled.
	newBacklog func(feed) backlog
}

var documented = dialect{
	newTables:  func() *tables { return nil },
	options:    func(o StreamOptions) StreamOptions { return o },
	plan:       planDocumented,
	newBacklog: newDocumentedBacklog,
}

// aug2024 follows the server of August 2024. It makes tables named after streams and consumers. It does not know
// stream options: a message always replaces the one with its key. One database sequence numbers the messages of all streams.
var aug2024 = dialect{
	newTables:  newTables,
	options:    func(o StreamOptions) StreamOptions { return StreamOptions{Name: o.Name, OneMessagePerKey: true} },
	sharedSeq:  true,
	plan:       planAug2024,
	newBacklog: newAug2024Backlog,
}

// sequence returns the sequence of a new stream; shared is that of the store.
func (d *dialect) sequence(shared *atomic.Int64) *atomic.Int64 {
	if d.sharedSeq {
		return shared
	}
	return new(atomic.Int64)
}
