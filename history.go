package sequin

import (
	linked "container/list"
	"fmt"
	"strings"
	"sync"
	"time"
)

// maxHistory is how many failing messages a pool remembers: ten times the default MaxInFlight, some 3 MB. With more, the
// one that has not failed for the longest is forgotten, and begins anew.
const maxHistory = 10_000

// maxErrorText bounds what is kept of an error's text: enough to find the cause, little beside a message.
const maxErrorText = 4 << 10

// identity is a version of a message.
type identity struct {
	key string
	seq int64
}

// record is what is known of a message whose handler failed.
type record struct {
	failures    int // calls that failed, for whatever reason: they set the backoff
	attempts    int // of these, the ones that count towards a dead letter
	first, last time.Time
	text        string // of the last error
	alone       bool   // to be handled without company, because it may be the one at fault
	doomed      bool   // belongs to the dead letters
	buried      bool   // is there
	waits       int    // other deliveries that ended no process: handled, or waiting for what had come of an earlier one
}

// note adds a failure; counts says whether it counts towards a dead letter.
func (r *record) note(now time.Time, text string, counts bool) {
	if r.failures == 0 {
		r.first = now
	}
	r.failures++
	r.last, r.text = now, text
	if counts {
		r.attempts++
	}
}

// history remembers the failures of a pool's messages.
type history struct {
	mu      sync.Mutex // guards all below
	records map[identity]*linked.Element
	order   *linked.List // of *remembered, the latest failure last
}

type remembered struct {
	identity
	record
}

func newHistory() *history {
	return &history{records: map[identity]*linked.Element{}, order: linked.New()}
}

// of returns what is known of a message; nothing is the zero record.
func (h *history) of(d Delivery) record {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e, ok := h.records[identity{d.Key, d.Seq}]; ok {
		return e.Value.(*remembered).record
	}
	return record{}
}

// update changes what is known of a message, and returns it. Whoever was changed last is forgotten last.
func (h *history) update(d Delivery, change func(r *record)) record {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, ok := h.records[identity{d.Key, d.Seq}]
	if !ok {
		// A key shares its memory with the data; a table of keys must not keep the data.
		id := identity{strings.Clone(d.Key), d.Seq}
		e = h.order.PushBack(&remembered{identity: id})
		h.records[id] = e
	}
	h.order.MoveToBack(e)
	r := e.Value.(*remembered)
	change(&r.record)
	for h.order.Len() > maxHistory {
		oldest := h.order.Front()
		h.order.Remove(oldest)
		delete(h.records, oldest.Value.(*remembered).identity)
	}
	return r.record
}

func (h *history) forget(d Delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := identity{d.Key, d.Seq}
	if e, ok := h.records[id]; ok {
		h.order.Remove(e)
		delete(h.records, id)
	}
}

// errorText is what is kept of an error.
func errorText(err error) string {
	text := fmt.Sprint(err) // which survives an Error method that panics, as that of a typed nil
	if len(text) > maxErrorText {
		text = text[:maxErrorText] + "…"
	}
	return strings.ToValidUTF8(text, "�")
}
