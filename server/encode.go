package server

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"github.com/sequin-go/sequin/internal/jscan"
	"github.com/sequin-go/sequin/server/internal/store"
)

// microsLayout is the layout of the times of messages.
const microsLayout = "2006-01-02T15:04:05.000000Z"

// encoder writes messages as JSON. It is written by hand because most of the time of a receive of 1,000 messages is spent
// here.
type encoder struct {
	buf    []byte
	counts bool // deliveries have deliver_count and expired_count
	bare   bool // messages have neither stream_id nor data_hash

	// The time that was written last, and its text: most messages of a batch have the same time.
	at     int64
	atText []byte
}

// overhead is an upper limit of a message without its key and data: names, ids, a hash, two times and two numbers.
const overhead = 384

// sizeOf estimates the size of a message, so that a large answer is not copied again and again while it grows. Data that
// is JSON itself grows by about an eighth when it is escaped.
func sizeOf(m *store.Message) int {
	return overhead + len(m.Key) + len(m.Data) + len(m.Data)/8 + 2*len(m.Headers)
}

func (e *encoder) raw(text string) { e.buf = append(e.buf, text...) }

func (e *encoder) deliveries(streamID string, all []store.Delivery) {
	size := 0
	for i := range all {
		size += sizeOf(&all[i].Message)
	}
	e.buf = slices.Grow(e.buf, size)
	e.raw(`{"data":[`)
	for i := range all {
		d := &all[i]
		if i > 0 {
			e.raw(",")
		}
		e.raw(`{"ack_id":"`)
		e.buf = d.ID.Append(e.buf)
		if e.counts {
			e.raw(`","deliver_count":`)
			e.buf = strconv.AppendInt(e.buf, int64(d.Count), 10)
			e.raw(`,"message":`)
		} else {
			e.raw(`","message":`)
		}
		e.message(streamID, &d.Message)
		if e.counts && d.Expired > 0 {
			e.raw(`,"expired_count":`)
			e.buf = strconv.AppendInt(e.buf, int64(d.Expired), 10)
		}
		e.raw("}")
	}
	e.raw("]}")
}

func (e *encoder) message(streamID string, m *store.Message) {
	e.raw(`{"key":`)
	e.buf = jscan.AppendString(e.buf, m.Key)
	if !e.bare {
		e.raw(`,"stream_id":"`)
		e.raw(streamID)
		e.raw(`","data_hash":"`)
		e.hash(m.Data)
		e.raw(`"`)
	}
	e.data(m)
	e.raw(`,"seq":`)
	e.buf = strconv.AppendInt(e.buf, m.Seq, 10)
	e.raw(`,"inserted_at":`)
	e.time(m.InsertedAt)
	e.raw(`,"updated_at":`)
	e.time(m.UpdatedAt)
	if m.Headers != "" {
		e.raw(`,"headers":`)
		e.buf = m.Headers.AppendJSON(e.buf)
	}
	e.raw("}")
}

// sizeFrom is how large data must be for a bare answer to say its size.
const sizeFrom = 256

func (e *encoder) data(m *store.Message) {
	if !m.Verbatim {
		e.raw(`,"data":`)
		e.buf = jscan.AppendString(e.buf, m.Data)
		return
	}
	if e.bare && len(m.Data) >= sizeFrom {
		e.raw(`,"size":`)
		e.buf = strconv.AppendInt(e.buf, int64(len(m.Data)), 10)
	}
	e.raw(`,"data":`)
	e.buf = jscan.AppendVerbatim(e.buf, m.Data)
}

// hash writes the hash of the data. It is computed for each answer: most messages are read once, and many never.
func (e *encoder) hash(data string) {
	sum := sha256.Sum256(unsafe.Slice(unsafe.StringData(data), len(data))) // a conversion would copy
	e.buf = base64.StdEncoding.AppendEncode(e.buf, sum[:])
}

// time writes a time, or null for zero.
func (e *encoder) time(micros int64) {
	if micros == 0 {
		e.raw("null")
		return
	}
	if micros != e.at || e.atText == nil {
		e.at = micros
		e.atText = time.UnixMicro(micros).UTC().AppendFormat(append(e.atText[:0], '"'), microsLayout)
		e.atText = append(e.atText, '"')
	}
	e.buf = append(e.buf, e.atText...)
}

// delivery writes the members of a delivery that peek and consumer_info show.
func (e *encoder) delivery(v *store.View, state string) {
	e.raw(`"ack_id":`)
	if v.ID.IsZero() {
		e.raw("null")
	} else {
		e.buf = append(v.ID.Append(append(e.buf, '"')), '"')
	}
	e.raw(`,"deliver_count":`)
	if v.Count == store.NoCount {
		e.raw("null")
	} else {
		e.buf = strconv.AppendInt(e.buf, int64(v.Count), 10)
	}
	e.raw(`,"last_delivered_at":`)
	e.time(v.LastDeliveredAt)
	e.raw(`,"not_visible_until":`)
	e.time(v.NotVisibleUntil)
	e.raw(`,"state":"`)
	e.raw(state)
	e.raw(`"`)
}
