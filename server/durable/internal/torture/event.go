// Package torture runs a load on a store and keeps account of what was asked and what was answered, so that after a crash
// Accounts can tell whether anything is missing, doubled, or back again.
//
// Workload makes Events. The process that makes them may be killed: another one, which has read them, then does the accounts.
package torture

import (
	"errors"
	"sync"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Phase says what is known about an operation.
type Phase string

// The phases. An operation that is asked and has no other event may have taken place or not.
const (
	Asked   Phase = "asked"
	Done    Phase = "done"
	Refused Phase = "refused" // it failed, and changed nothing
	Unknown Phase = "unknown" // it failed, and may have taken place
)

// phaseOf returns the phase after an operation returned err.
func phaseOf(err error) Phase {
	switch {
	case err == nil:
		return Done
	case errors.Is(err, store.ErrUnknown):
		return Unknown
	}
	return Refused
}

// Op is an operation.
type Op string

// The operations.
const (
	Send    Op = "send"
	Receive Op = "receive"
	Settle  Op = "settle"
	Extend  Op = "extend" // leases
	Purge   Op = "purge"  // a step of a stream that is purged
	Create  Op = "create" // of a stream, or of a consumer
	Delete  Op = "delete" // of a stream, or of a consumer
)

// Event is a step of an operation.
type Event struct {
	Op         Op
	Phase      Phase
	Stream     string
	Consumer   string           `json:",omitempty"`
	Worker     int              `json:",omitempty"`
	Send       int              `json:",omitempty"` // the number of the send among those of the worker
	At         time.Time        `json:",omitzero"`  // when a receive was answered, or a settle or an extension was asked for
	How        store.Settlement `json:",omitempty"`
	Wait       time.Duration    `json:",omitempty"` // the delay of a settle, or the length of the extended leases
	Deliveries []Delivery       `json:",omitempty"` // what was received, is settled, or is on lease after an extension
	Ended      []Delivery       `json:",omitempty"` // what is no longer on lease, of an extension
	Err        string           `json:",omitempty"`
}

// Delivery is a delivery in an Event.
type Delivery struct {
	Message Message
	Seq     int64
	ID      store.ID
	Count   int
}

// Journal keeps events in memory. Its methods may be called concurrently.
type Journal struct {
	mu     sync.Mutex // guards events
	events []Event
}

// Add adds an event.
func (j *Journal) Add(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

// Events returns what was added so far.
func (j *Journal) Events() []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.events[:len(j.events):len(j.events)]
}
