package durable

import (
	"fmt"
	"slices"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// The kinds of records. Their numbers are on disk. A record holds everything that its operation has decided: applying it
// looks at no clock, draws nothing at random and reads nothing.
const (
	kindOpened byte = 1 + iota // the first of an opening
	kindCreateStream
	kindDeleteStream
	kindCreateConsumer
	kindUpdateConsumer
	kindDeleteConsumer
	kindSend
	kindReceive
	kindSettle
	kindExpire
	kindMoved   // messages that cleaning has copied
	kindNothing // it only moves the end of the log
	kindDelay   // a settle with a delay
	kindExtend  // an extension of leases
	kindPurge   // ranges of messages that were purged

	kindCreateConsumerAt // a consumer that does not start at the beginning

	kindSendHeaders  // a send of messages with headers
	kindMovedHeaders // a moved record of messages with headers

	kindCreateCopy      // a stream that is the target of a copy
	kindCopyMark        // what a stream is in a copy
	kindSkip            // seqs that a stream does not have, because the one that it is a copy of has not
	kindRestoreConsumer // a consumer at a position

	kindsEnd // this and higher kinds are those of newer programs
)

// hasMessages reports whether the records of a kind hold messages.
func hasMessages(kind byte) bool { return isSend(kind) || isMoved(kind) }

func isSend(kind byte) bool  { return kind == kindSend || kind == kindSendHeaders }
func isMoved(kind byte) bool { return kind == kindMoved || kind == kindMovedHeaders }

// withHeaders reports whether the messages in the records of a kind have headers, some of them perhaps none. Records of messages
// without headers are of kinds of their own, as they were before there were headers.
func withHeaders(kind byte) bool { return kind == kindSendHeaders || kind == kindMovedHeaders }

// undecodable is the error for a record whose checksum is right and whose body makes no sense.
func undecodable(rec seglog.Record) error {
	return fmt.Errorf("record of kind %d: %w", rec.Kind, &store.DamagedError{
		File: fmt.Sprintf("segment %d", rec.Pos.Segment()), Offset: rec.Pos.Offset(), Position: uint64(rec.Pos),
	})
}

// unknownKind is the error for a record of a newer program.
func unknownKind(rec seglog.Record) error {
	return fmt.Errorf("%w: this program does not know kind %d, of the record in segment %d at offset %d: use a newer one",
		store.ErrVersion, rec.Kind, rec.Pos.Segment(), rec.Pos.Offset())
}

func appendStream(dst []byte, id string, at int64, o store.StreamOptions) []byte {
	dst = binary.AppendString(dst, id)
	dst = binary.AppendInt(dst, at)
	dst = binary.AppendString(dst, o.Name)
	dst = binary.AppendBool(dst, o.OneMessagePerKey)
	dst = binary.AppendBool(dst, o.ProcessUnmodified)
	dst = binary.AppendInt(dst, o.MaxBytes)
	dst = binary.AppendInt(dst, int64(o.RetainUpTo))
	return binary.AppendInt(dst, int64(o.RetainAtLeast))
}

func readStream(in *binary.Reader) (id string, at int64, o store.StreamOptions) {
	id, at = in.String(), in.Int()
	o.Name = in.String()
	o.OneMessagePerKey, o.ProcessUnmodified = in.Bool(), in.Bool()
	o.MaxBytes = in.Int()
	o.RetainUpTo, o.RetainAtLeast = int(in.Int()), int(in.Int())
	return id, at, o
}

// consumerRecord is what creates a consumer.
type consumerRecord struct {
	cid     uint64
	id      string
	at      int64 // nanoseconds since 1970
	options store.ConsumerOptions
}

// kind returns the kind of the record. The start is in one of its own kind only, as the record has been without.
func (r *consumerRecord) kind() byte {
	if r.options.Start > 1 {
		return kindCreateConsumerAt
	}
	return kindCreateConsumer
}

func (r *consumerRecord) appendTo(dst []byte) []byte {
	if r.options.Start > 1 {
		dst = binary.AppendInt(dst, r.options.Start)
	}
	dst = binary.AppendUint(dst, r.cid)
	dst = binary.AppendString(dst, r.id)
	dst = binary.AppendInt(dst, r.at)
	dst = binary.AppendString(dst, r.options.Name)
	dst = binary.AppendString(dst, r.options.Filter)
	return appendLimits(dst, r.options.ConsumerLimits)
}

// readConsumer reads what appendTo has appended. starts says that it has the start.
func readConsumer(in *binary.Reader, starts bool) (r consumerRecord) {
	r.options.Start = 1
	if starts {
		r.options.Start = in.Int()
	}
	r.cid, r.id, r.at = in.Uint(), in.String(), in.Int()
	r.options.Name, r.options.Filter = in.String(), in.String()
	r.options.ConsumerLimits = readLimits(in)
	return r
}

func appendLimits(dst []byte, l store.ConsumerLimits) []byte {
	dst = binary.AppendInt(dst, int64(l.AckWait))
	for _, n := range []int{l.MaxAckPending, l.MaxDeliver, l.MaxWaiting} {
		dst = binary.AppendInt(dst, int64(n))
	}
	return binary.AppendBool(dst, l.Disabled)
}

func readLimits(in *binary.Reader) (l store.ConsumerLimits) {
	l.AckWait = duration(in.Int())
	l.MaxAckPending, l.MaxDeliver, l.MaxWaiting = int(in.Int()), int(in.Int()), int(in.Int())
	l.Disabled = in.Bool()
	return l
}

// settleRecord ends leases, or extends them.
type settleRecord struct {
	cid        uint64
	now        int64
	how        backlog.How
	delay      int64              // nanoseconds, 0 for none; of an extension the new length of the leases
	deliveries []backlog.Delivery // by ascending seq, each once
}

// newSettleRecord sorts the deliveries and leaves out repeats.
func newSettleRecord(cid uint64, now int64, how backlog.How, delay int64, deliveries []backlog.Delivery) settleRecord {
	if !slices.IsSortedFunc(deliveries, bySeq) {
		slices.SortFunc(deliveries, bySeq)
	}
	deliveries = slices.CompactFunc(deliveries, func(a, b backlog.Delivery) bool { return a.Seq == b.Seq })
	return settleRecord{cid, now, how, delay, deliveries}
}

// kind returns the kind of the record. The delay is in one of its own kind only, as a settle record has been without.
func (r *settleRecord) kind() byte {
	if r.delay > 0 {
		return kindDelay
	}
	return kindSettle
}

func bySeq(a, b backlog.Delivery) int {
	switch {
	case a.Seq < b.Seq:
		return -1
	case a.Seq > b.Seq:
		return 1
	}
	return 0
}

// appendTo appends what follows the consumer's number.
func (r *settleRecord) appendTo(dst []byte) []byte {
	dst = binary.AppendInt(dst, r.now)
	dst = append(dst, byte(r.how))
	if r.delay > 0 {
		dst = binary.AppendInt(dst, r.delay)
	}
	dst = binary.AppendUint(dst, uint64(len(r.deliveries)))
	var last backlog.Delivery
	for _, d := range r.deliveries {
		dst = binary.AppendInt(dst, d.Seq-last.Seq)
		dst = binary.AppendInt(dst, int64(d.Lease.Opening-last.Lease.Opening))
		dst = binary.AppendInt(dst, int64(d.Lease.Receive-last.Lease.Receive))
		last = d
	}
	return dst
}

func readSettle(in *binary.Reader, kind byte, cid uint64) (r settleRecord) {
	r.cid, r.now, r.how = cid, in.Int(), backlog.How(in.Byte())
	if kind != kindSettle {
		r.delay = in.Int()
	}
	var d backlog.Delivery
	n := in.Count(3)
	r.deliveries = make([]backlog.Delivery, n)
	for i := range r.deliveries {
		d.Seq += in.Int()
		d.Lease.Opening += uint64(in.Int())
		d.Lease.Receive += uint64(in.Int())
		r.deliveries[i] = d
	}
	return r
}
