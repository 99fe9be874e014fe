package sim

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// purgePlan is a purge of the stream.
type purgePlan struct {
	At      time.Duration
	Share   int    // of the messages that are in the stream then, the oldest, in percent
	Pattern string // of their keys; "" for all
}

// purge purges the stream when it is due. It may fail, as the server may be down. What the server did is in its journal.
func (w *world) purge(p purgePlan) {
	time.Sleep(p.At)
	stream, _ := w.srv.Stream(streamName)
	n := len(stream.Messages) * p.Share / 100
	if n == 0 {
		return
	}
	o := sequin.PurgeOptions{BeforeSeq: stream.Messages[n-1].Seq + 1, KeyPattern: p.Pattern}
	_, err := w.newClient(director, time.Minute).PurgeStream(context.Background(), streamName, o)
	if can := w.s.has(purging); can && errors.Is(err, sequin.ErrUnsupported) || !can && err == nil {
		w.rec.violate("a server that announces purge purges, and no other", "%v", err)
	}
}

// purged is a purge that the server carried out.
type purged struct {
	at      time.Time
	before  int64 // seq
	pattern string
}

// readPurge reads a purge that the server carried out.
func (h *history) readPurge(r sequintest.Request) {
	var asked sequin.PurgeOptions
	var done struct{ Data *struct{ Purged *int64 } }
	if !r.Acted || json.Unmarshal(r.Body, &asked) != nil || json.Unmarshal(r.Answer, &done) != nil || done.Data == nil || done.Data.Purged == nil {
		return
	}
	h.purges = append(h.purges, purged{r.ActedAt, asked.BeforeSeq, asked.KeyPattern})
}

func (p purged) covers(key string) bool { return p.pattern == "" || matches(p.pattern, key) }

// isPurged reports whether a message of the stream was purged at t or before.
func (h *history) isPurged(key string, seq int64, t time.Time) bool {
	for _, p := range h.purges {
		if p.covers(key) && seq < p.before && !p.at.After(t) {
			return true
		}
	}
	return false
}

// mayBePurged reports whether a message was stored before a purge that concerns its key.
func (h *history) mayBePurged(m *message) bool {
	for _, p := range h.purges {
		for _, at := range h.storedAt[sentRef{m.publisher, m.id}] {
			if p.covers(m.key) && !at.After(p.at) {
				return true
			}
		}
	}
	return false
}

// purgedIsGone requires that a message that was purged is not in the stream, and is not delivered.
func purgedIsGone(h *history) (found []violation) {
	for _, x := range h.leases {
		if h.isPurged(x.Key, x.Seq, x.at.Add(-1)) {
			found = append(found, violationOf(x.consumer, x.Key, "%s (seq %d) was delivered to %s at %v, after it was purged", idOf(x.Data), x.Seq, x.worker, x.at.Sub(h.rec.begin)).when(x.at))
		}
	}
	for _, m := range h.rec.final.Messages {
		for _, p := range h.purges {
			if p.covers(m.Key) && m.Seq < p.before {
				found = append(found, violationOf("", m.Key, "%s (seq %d) is in the stream, although it was purged at %v", idOf(m.Data), m.Seq, p.at.Sub(h.rec.begin)))
			}
		}
	}
	return found
}
