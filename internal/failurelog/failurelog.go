// Package failurelog remembers how the handling of messages has failed: how often, when, and with which error. It keeps
// the records of the 10,000 messages that changed last. Its memory is therefore bounded, to about 3 MB.
//
// A Log owns its records, under one mutex, and returns copies. It keeps nothing of a message but its key. It does not
// know what a delivery or a dead letter is, and decides nothing: its caller reads and changes the fields of a Record.
package failurelog

import (
	linked "container/list"
	"fmt"
	"strings"
	"sync"
	"time"
)

// maxRecords is how many messages a Log remembers: ten times the default MaxInFlight of a Subscriber.
const maxRecords = 10_000

// maxText is the largest number of bytes that are kept of an error's text. It is enough to find the cause.
const maxText = 4 << 10

// ID identifies a version of a message.
type ID struct {
	Key string
	Seq int64
}

// Record is what is known of a message whose handling has failed. The zero Record is that of any other message.
type Record struct {
	// Failures counts the handler calls that failed, for whatever reason. It determines the backoff.
	Failures int
	// Tries counts the failures that count towards the dead letter.
	Tries int
	// Deliveries is the number of deliveries that the server had counted when it was found to be too large, or 0.
	Deliveries int
	// Survived counts the deliveries, beside Failures, that did not crash the process: their handler succeeded, or they
	// waited for output messages of an earlier delivery.
	Survived int
	// First and Last are the times of the first and the last failure. Text is the text of the last error.
	First, Last time.Time
	Text        string
	// Isolate reports that the message may be the one at fault in a batch. It is then handled in a batch of its own.
	Isolate bool
	// Dead reports that the message becomes a dead letter.
	Dead bool
	// LetterSent reports that the server has confirmed the dead letter.
	LetterSent bool
}

// Note adds a failure. counts reports whether it counts towards the dead letter.
func (r *Record) Note(now time.Time, text string, counts bool) {
	if r.Failures == 0 {
		r.First = now
	}
	r.Failures++
	r.Last, r.Text = now, text
	if counts {
		r.Tries++
	}
}

// Log is the table of records. Its methods are safe for concurrent use.
type Log struct {
	mu      sync.Mutex // guards all below
	records map[ID]*linked.Element
	order   *linked.List // of *entry, the latest change last
}

type entry struct {
	id     ID
	record Record
}

// New returns an empty Log.
func New() *Log {
	return &Log{records: map[ID]*linked.Element{}, order: linked.New()}
}

// Get returns the record of a message, the zero Record if there is none.
func (l *Log) Get(id ID) Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.records[id]; ok {
		return e.Value.(*entry).record
	}
	return Record{}
}

// Update changes the record of a message, and returns it. change runs under the Log's mutex. When there are too many
// records, the one that changed least recently is evicted.
func (l *Log) Update(id ID, change func(*Record)) Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.records[id]
	if !ok {
		// The key may share its memory with the message's data, which the table must not keep alive.
		id.Key = strings.Clone(id.Key)
		e = l.order.PushBack(&entry{id: id})
		l.records[id] = e
	}
	l.order.MoveToBack(e)
	found := e.Value.(*entry)
	change(&found.record)
	for l.order.Len() > maxRecords {
		oldest := l.order.Front()
		l.order.Remove(oldest)
		delete(l.records, oldest.Value.(*entry).id)
	}
	return found.record
}

// Forget removes the record of a message.
func (l *Log) Forget(id ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.records[id]; ok {
		l.order.Remove(e)
		delete(l.records, id)
	}
}

// Text returns what a Record keeps of an error's text: valid UTF-8, at most 4 KiB, and an ellipsis if it was truncated.
func Text(err error) string {
	text := fmt.Sprint(err) // fmt recovers when the Error method panics, as that of a typed nil does
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	return strings.ToValidUTF8(text, "�")
}
