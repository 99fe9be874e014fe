package postgres

import (
	"fmt"
	"math/bits"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// maxMet is how many messages that wait for an earlier one of their key a consumer keeps.
const maxMet = backlog.MaxMet

// state is what a replica knows of a consumer: the decisions up to number n. It makes no decision of its own, so that every
// replica that has applied the same decisions has the same state.
type state struct {
	*backlog.Backlog
	keyed bool
	n     int64 // the last decision that is applied
	tag   int64 // of that decision
	now   int64 // its time, nanoseconds; later decisions are not earlier
	trim  int64 // messages below it are gone; of a stream that appends
	// purges is how many purges the state is known to follow. It is no part of decisions and snapshots.
	purges int64
	dead   map[int64]bool
	makers makers

	ops      int // since the last snapshot
	opBytes  int // of them
	snapshot int // bytes of the last snapshot
}

func newState(keyed bool) *state {
	s := &state{keyed: keyed, trim: 1}
	s.Backlog = backlog.New(s, backlog.Limits{})
	s.prepare()
	return s
}

func (s *state) prepare() {
	if s.keyed {
		s.KeepNewest()
	}
}

// Alive implements backlog.Stream by what the decisions said. A message with one per key that was replaced since is found
// missing when it is read, and a decision says so. dead is for an inspection.
func (s *state) Alive(seq int64) bool { return (s.keyed || seq >= s.trim) && !s.dead[seq] }

const (
	// opFormat is the version of the bodies of decisions and snapshots.
	opFormat = 1
	// opFormatUnseen is that of the bodies of decisions that were made without a look at the state. The database has put in its
	// clock: 8 bytes, big-endian microseconds.
	opFormatUnseen = 2
)

// The entries of a decision.
const (
	entryTrim byte = iota + 1
	entryGone
	entryExpire
	entryReceive
	entrySettle
	entryExtend
	entryLimits
	entryStart
	entrySettleOnLease
)

// decision is the body of a row of ops while it is made.
type decision struct {
	body  []byte
	empty bool
}

func newDecision(now int64) decision {
	return decision{binary.AppendInt([]byte{opFormat}, now), true}
}

func (d *decision) add(kind byte) {
	d.empty = false
	d.body = append(d.body, kind)
}

func (d *decision) addTrim(trim int64) { d.add(entryTrim); d.body = binary.AppendInt(d.body, trim) }

func (d *decision) addGone(seqs []int64) { d.add(entryGone); d.body = binary.AppendSeqs(d.body, seqs) }

func (d *decision) addExpire() { d.add(entryExpire) }

func (d *decision) addReceive(r *backlog.Receive) { d.add(entryReceive); d.body = r.AppendTo(d.body) }

func (d *decision) addSettle(all []backlog.Delivery, how backlog.How, delay int64) {
	d.add(entrySettle)
	d.body = binary.AppendInt(append(d.body, byte(how)), delay)
	d.body = appendDeliveries(d.body, all)
}

// addSettleOnLease settles those of the deliveries that are on lease when the decision is applied.
func (d *decision) addSettleOnLease(s *settle) {
	d.add(entrySettleOnLease)
	d.body = binary.AppendInt(append(d.body, byte(s.how)), s.delay)
	d.body = appendDeliveries(d.body, s.deliveries)
}

func (d *decision) addExtend(all []backlog.Delivery, length int64) {
	d.add(entryExtend)
	d.body = appendDeliveries(binary.AppendInt(d.body, length), all)
}

func (d *decision) addLimits(l backlog.Limits) {
	d.add(entryLimits)
	d.body = binary.AppendInt(d.body, l.AckWait)
	d.body = binary.AppendInt(d.body, int64(l.MaxAckPending))
	d.body = binary.AppendInt(d.body, int64(l.MaxDeliver))
}

func (d *decision) addStart(seq int64) { d.add(entryStart); d.body = binary.AppendInt(d.body, seq) }

func appendDeliveries(dst []byte, all []backlog.Delivery) []byte {
	dst = binary.AppendUint(dst, uint64(len(all)))
	var last int64
	for _, d := range all {
		dst = binary.AppendInt(dst, d.Seq-last)
		dst = binary.AppendUint(dst, d.Lease.Opening)
		last = d.Seq
	}
	return dst
}

func readDeliveries(in *binary.Reader) []backlog.Delivery {
	all := make([]backlog.Delivery, in.Count(2))
	var last int64
	for i := range all {
		last += in.Int()
		all[i] = backlog.Delivery{Seq: last, Lease: leaseOf(in.Uint())}
	}
	return all
}

// apply applies a decision of another replica, or one that was made before the state was read.
func (s *state) apply(n, tag int64, body []byte) error {
	in := binary.NewReader(body)
	switch format := in.Byte(); format {
	case opFormat:
		s.now = in.Int()
	case opFormatUnseen:
		s.now = max(s.now, int64(bits.ReverseBytes64(in.Fixed()))*1000)
	default:
		return fmt.Errorf("%w: a decision about a consumer has format %d, and this program knows %d: upgrade it", store.ErrFailed, format, opFormatUnseen)
	}
	for len(in.Rest()) > 0 && in.Err() == nil {
		s.applyEntry(in)
	}
	if in.Err() != nil || n != s.n+1 {
		return fmt.Errorf("%w: decision %d about a consumer cannot be applied after decision %d", store.ErrDamaged, n, s.n)
	}
	s.decided(n, tag, len(body))
	return nil
}

func (s *state) decided(n, tag int64, size int) {
	s.n, s.tag = n, tag
	s.makers.add(made{n, tag})
	s.ops++
	s.opBytes += size
}

func (s *state) applyEntry(in *binary.Reader) {
	switch in.Byte() {
	case entryTrim:
		s.trim = in.Int()
		s.Trimmed(s.trim)
	case entryGone:
		for _, seq := range in.Seqs() {
			s.Dropped(seq)
		}
	case entryExpire:
		s.Expire(s.now)
	case entryReceive:
		r := backlog.ReadReceive(in)
		s.Receive(&r, nil)
	case entrySettle:
		how, delay := backlog.How(in.Byte()), in.Int()
		s.Settle(readDeliveries(in), how, s.now, delay)
	case entrySettleOnLease:
		how, delay := backlog.How(in.Byte()), in.Int()
		s.SettleOnLease(readDeliveries(in), how, s.now, delay)
	case entryExtend:
		length := in.Int()
		s.Extend(readDeliveries(in), s.now, length)
	case entryLimits:
		s.SetLimits(backlog.Limits{AckWait: in.Int(), MaxAckPending: int(in.Int()), MaxDeliver: int(in.Int())})
	case entryStart:
		s.StartAt(in.Int())
	default:
		in.Bytes(-1) // fails
	}
}

// appendTo appends the whole state, for a snapshot.
func (s *state) appendTo(dst []byte) []byte {
	dst = binary.AppendInt(append(dst, opFormat), s.now)
	return s.makers.appendTo(s.AppendTo(binary.AppendInt(dst, s.trim)))
}

// readState reads what appendTo wrote.
func readState(keyed bool, n, tag int64, body []byte) (*state, error) {
	in := binary.NewReader(body)
	if format := in.Byte(); format != opFormat {
		return nil, fmt.Errorf("%w: the snapshot of a consumer has format %d, and this program knows %d: upgrade it", store.ErrFailed, format, opFormat)
	}
	s := &state{keyed: keyed, n: n, tag: tag, snapshot: len(body)}
	s.now, s.trim = in.Int(), in.Int()
	s.Backlog = backlog.Read(s, in)
	s.makers = readMakers(n, in)
	s.prepare()
	if in.Err() != nil {
		return nil, fmt.Errorf("%w: the snapshot %d of a consumer cannot be decoded", store.ErrDamaged, n)
	}
	return s, nil
}

// wantsSnapshot reports whether the decisions since the last snapshot outweigh it, so that a new one pays.
func (s *state) wantsSnapshot() bool { return s.ops >= 64 && s.opBytes >= 4*s.snapshot }
