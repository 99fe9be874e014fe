package store

import (
	"strings"
	"sync"
)

// tables are the names of the tables that the 2024 server's database has. That server makes a table for each stream and
// for each consumer, and answers 500 when it cannot. A nil *tables stands for a store without tables: every name is free.
type tables struct {
	mu    sync.Mutex // guards taken; never held together with another lock that is taken later
	taken map[string]struct{}
}

// newTables returns the names of an empty database. The sequence of the messages and the indexes of the tables that are
// always there take names too.
func newTables() *tables {
	return &tables{taken: map[string]struct{}{
		"messages_seq": {}, "messages_pkey": {}, "messages_stream_id_seq_index": {}, "messages_stream_id_key_index": {},
		"consumer_messages_pkey": {}, "consumer_messages_message_key_index": {}, "consumer_messages_consumer_id_index": {},
	}}
}

// maxIdentifier is how many bytes of a name Postgres uses.
const maxIdentifier = 63

// streamTable returns the name of a stream's table.
func streamTable(stream string) string { return identifier("messages_" + stream) }

// consumerTable returns the name of a consumer's table.
func consumerTable(stream, consumer string) string {
	return identifier("consumer_messages_" + stream + "_" + consumer)
}

// identifier returns the name that Postgres makes of one without quotes.
func identifier(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	return name[:min(len(name), maxIdentifier)]
}

// create takes a name, and returns ErrTable if it is not free or cannot be the name of a table.
func (t *tables) create(name string) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, taken := t.taken[name]; taken || strings.Contains(name, "\n") {
		return ErrTable
	}
	t.taken[name] = struct{}{}
	return nil
}

// drop frees a name.
func (t *tables) drop(name string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.taken, name)
}
