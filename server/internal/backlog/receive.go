package backlog

import (
	"slices"

	"github.com/sequin-go/sequin/server/internal/binary"
)

// Receive is what one receive decides. It is the body of a record.
type Receive struct {
	Now    int64 // leases that have ended by then end first
	Lease  Lease
	Length int64 // of the new leases
	Next   int64 // what the backlog has read afterwards
	Ready  int   // how many of the ready messages are leased, lowest seq first
	Fresh  []Message
	Met    []Message
	Left   []Message // first messages that are left out of their key's met ones
	Sought []Sought
}

// Message is a message that is read, with the hash of its key.
type Message struct {
	Seq int64
	Key Hash
}

// Sought says what was found of a key that seeks.
type Sought struct {
	Key  Hash
	Seqs []int64 // its unsettled messages, ascending
	More int64   // where to read on, or 0 when everything below Next was read
}

// Empty reports whether the receive changes nothing but Next.
func (r *Receive) Empty() bool {
	return r.Ready == 0 && len(r.Fresh) == 0 && len(r.Met) == 0 && len(r.Left) == 0 && len(r.Sought) == 0
}

// NextLease returns the lease of the next receive.
func (b *Backlog) NextLease(opening uint64) Lease {
	if b.lease.Opening != opening {
		return Lease{opening, 1}
	}
	return Lease{opening, b.lease.Receive + 1}
}

// Leased is a message that a receive has leased.
type Leased struct {
	Seq   int64
	Count int // deliveries, including this one
	// Expired is how many of the earlier ones ended with their leases, neither settled nor extended.
	Expired int
}

// Receive applies a receive and appends what it has leased to dst: ready messages first, then fresh ones.
func (b *Backlog) Receive(r *Receive, dst []Leased) []Leased {
	b.Expire(r.Now)
	b.lease = r.Lease
	if b.blind {
		return dst
	}
	for i := range r.Sought {
		b.found(&r.Sought[i])
	}
	for range r.Ready {
		if len(b.ready) == 0 {
			break
		}
		it := b.ready[0]
		b.ready.remove(it)
		dst = append(dst, b.leaseTo(it, r))
	}
	for _, m := range r.Fresh {
		it := &item{key: m.Key}
		b.heads[m.Key] = it
		b.become(it, m.Seq)
		dst = append(dst, b.leaseTo(it, r))
	}
	for _, m := range r.Met {
		if it := b.heads[m.Key]; it != nil {
			b.addLater(it, m.Seq)
		}
	}
	for _, m := range r.Left {
		if it := b.heads[m.Key]; it != nil && it.more == 0 {
			it.more = m.Seq
			b.left++
		}
	}
	b.readTo(r.Next)
	return dst
}

func (b *Backlog) leaseTo(it *item, r *Receive) Leased {
	it.count++
	it.extended = false
	it.lease, it.lastAt, it.length, it.until = r.Lease, r.Now, r.Length, r.Now+r.Length
	b.out.push(it)
	return Leased{it.seq, it.count, it.expired}
}

// addLater adds a met message of the head's key. It removes dead ones from the end first, so that a key that is replaced
// again and again has at most one.
func (b *Backlog) addLater(it *item, seq int64) {
	if b.newestOnly {
		b.met -= len(it.later)
		it.later = it.later[:0]
	}
	for n := len(it.later); n > 0 && !b.stream.Alive(it.later[n-1]); n-- {
		it.later = it.later[:n-1]
		b.met--
	}
	it.later = append(it.later, seq)
	b.met++
}

// readTo says that everything below next is read. What was settled ahead is done then.
func (b *Backlog) readTo(next int64) {
	b.next = max(b.next, next)
	for seq := range b.ahead {
		if seq < b.next {
			delete(b.ahead, seq)
		}
	}
}

// Seeking calls f with each key that seeks, and where to read on.
func (b *Backlog) Seeking(f func(key Hash, more int64)) {
	if b.sought == 0 {
		return
	}
	for _, it := range b.heads {
		if it.seq == 0 {
			f(it.key, it.more)
		}
	}
}

// Seeks returns how many keys seek.
func (b *Backlog) Seeks() int { return b.sought }

// found adds what was found of a key that seeks. Its first living message becomes ready.
func (b *Backlog) found(s *Sought) {
	it := b.heads[s.Key]
	if it == nil || it.seq != 0 {
		return
	}
	b.sought--
	if it.later, it.more = slices.Clone(s.Seqs), s.More; it.more == 0 {
		b.left--
	}
	b.met += len(it.later)
	b.advance(it)
}

// AppendTo appends the record's body.
func (r *Receive) AppendTo(dst []byte) []byte {
	dst = binary.AppendInt(dst, r.Now)
	dst = binary.AppendUint(dst, r.Lease.Opening)
	dst = binary.AppendUint(dst, r.Lease.Receive)
	dst = binary.AppendInt(dst, r.Length)
	dst = binary.AppendInt(dst, r.Next)
	dst = binary.AppendUint(dst, uint64(r.Ready))
	for _, list := range [][]Message{r.Fresh, r.Met, r.Left} {
		dst = appendMessages(dst, list)
	}
	dst = binary.AppendUint(dst, uint64(len(r.Sought)))
	for _, s := range r.Sought {
		dst = append(dst, s.Key[:]...)
		dst = binary.AppendInt(dst, s.More)
		dst = binary.AppendSeqs(dst, s.Seqs)
	}
	return dst
}

// ReadReceive reads what AppendTo wrote.
func ReadReceive(in *binary.Reader) (r Receive) {
	r.Now = in.Int()
	r.Lease = Lease{in.Uint(), in.Uint()}
	r.Length = in.Int()
	r.Next = in.Int()
	r.Ready = int(in.Uint())
	r.Fresh, r.Met, r.Left = readMessages(in), readMessages(in), readMessages(in)
	n := in.Count(len(Hash{}) + 2)
	for range n {
		s := Sought{Key: readHash(in), More: in.Int()}
		s.Seqs = in.Seqs()
		r.Sought = append(r.Sought, s)
	}
	return r
}

func appendMessages(dst []byte, list []Message) []byte {
	dst = binary.AppendUint(dst, uint64(len(list)))
	var last int64
	for _, m := range list {
		dst = binary.AppendInt(dst, m.Seq-last)
		dst = append(dst, m.Key[:]...)
		last = m.Seq
	}
	return dst
}

func readMessages(in *binary.Reader) []Message {
	n := in.Count(1 + len(Hash{}))
	if n == 0 {
		return nil
	}
	list := make([]Message, n)
	var last int64
	for i := range list {
		last += in.Int()
		list[i] = Message{last, readHash(in)}
	}
	return list
}

func readHash(in *binary.Reader) (h Hash) {
	copy(h[:], in.Bytes(len(h)))
	return h
}
