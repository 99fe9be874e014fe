package postgres

import (
	"math/rand/v2"
	"slices"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

const (
	// skipUnrecorded is how many messages a consumer may pass by before a decision says so. They are read again until then.
	skipUnrecorded = 10_000
	// scanAtMost is how many messages one transaction looks at, so that it holds the lock for some milliseconds.
	scanAtMost = 50_000
	// scanAtLeast is what one statement counts for that finds few messages or none.
	scanAtLeast = 100
)

// keyHash returns the hash of a key.
func keyHash(key string) backlog.Hash { return backlog.Hash(store.HashBody(bytesOf(key))) }

// receiving is the request of a receive.
func (e *engine) receiving(n int) *request {
	r := &request{leases: true} // that there is no message rests on nothing that must be on disk
	r.do = func(t *transaction) (err error) {
		r.again, err = t.receive(r, n)
		return err
	}
	return r
}

// looking is the request of a look: whether a receive would get a message.
func (e *engine) looking(available *bool) *request {
	r := &request{look: true}
	r.do = func(t *transaction) error {
		p, err := t.plan(1)
		if err != nil {
			return err
		}
		rec := p.Receive()
		if *available = rec.Ready > 0 || len(rec.Fresh) > 0; *available {
			return nil
		}
		r.again = p.more && !p.Full()
		t.pass(rec, r.again)
		return nil
	}
	return r
}

// receive leases up to n messages for a request. again says that it has found none so far, and that there is more to look at.
func (t *transaction) receive(r *request, n int) (again bool, err error) {
	p, err := t.plan(n)
	if err != nil {
		return false, err
	}
	rec := p.Receive()
	if rec.Ready == 0 && len(rec.Fresh) == 0 {
		again = p.more && !p.Full()
		t.pass(rec, again)
		return again, nil
	}
	t.d.addReceive(rec)
	leased := t.e.state.Receive(rec, make([]backlog.Leased, 0, rec.Ready+len(rec.Fresh)))
	messages := slices.Concat(p.ready[:rec.Ready], p.fresh)
	r.deliveries = make([]store.Delivery, 0, len(leased))
	for i, l := range leased {
		id := ackID(t.e.salt, backlog.Delivery{Seq: l.Seq, Lease: rec.Lease})
		r.deliveries = append(r.deliveries, store.Delivery{Message: messages[i].Message, ID: id, Count: l.Count, Expired: l.Expired, At: t.began})
		if messages[i].unread {
			r.unread = append(r.unread, i)
			if n := len(r.chunks); n == 0 || r.chunks[n-1] != messages[i].chunk {
				r.chunks = append(r.chunks, messages[i].chunk)
			}
		}
	}
	return false, nil
}

// pass decides about messages that were read and are not leased, when that is worth a decision.
func (t *transaction) pass(rec *backlog.Receive, must bool) {
	if must || !rec.Empty() || rec.Next-t.e.state.Next() >= skipUnrecorded {
		t.d.addReceive(rec)
		t.e.state.Receive(rec, nil)
		return
	}
	t.e.passed = max(t.e.passed, rec.Next)
}

// receivePlan is the plan of a receive, with the messages that it leases.
type receivePlan struct {
	*backlog.Plan
	ready, fresh []planned
	more         bool // it has not looked at everything
}

// plan plans a receive. It decides only that messages are gone and where keys go on.
func (t *transaction) plan(n int) (*receivePlan, error) {
	for {
		if err := t.seek(); err != nil {
			return nil, err
		}
		ready, err := t.readyMessages(n)
		if err != nil {
			return nil, err
		}
		nonce := rand.Uint64()&(1<<nonceBits-1) | 1
		p := &receivePlan{Plan: t.e.state.Plan(n, t.now, nonce, t.e.st.options.maxMet)}
		var room store.AnswerRoom
		full := false
		for i := range ready {
			if full = !room.Take(ready[i].size); full {
				break
			}
			p.ready = append(p.ready, ready[i])
			p.TakeReady()
		}
		if full {
			return p, nil
		}
		if done, err := t.readOn(p, &room); err != nil || done {
			return p, err
		}
	}
}

// readyMessages returns the messages of the first ready heads. Those that are gone are decided to be.
func (t *transaction) readyMessages(n int) ([]planned, error) {
	s := t.e.state
	for {
		seqs := s.TopReady(min(n, s.Room()), nil)
		found, err := t.fetch(seqs)
		if err != nil {
			return nil, err
		}
		messages := make([]planned, 0, len(seqs))
		var gone []int64
		for _, seq := range seqs {
			m, ok := found[seq]
			if !ok || !s.keyed && seq < t.top.trim {
				gone = append(gone, seq)
				continue
			}
			messages = append(messages, m)
		}
		if len(gone) == 0 {
			return messages, nil
		}
		t.gone(gone)
	}
}

// readOn shows the plan the messages that the consumer has not read. It returns false when the plan has to be made again,
// because a message that was read has replaced another one.
func (t *transaction) readOn(p *receivePlan, room *store.AnswerRoom) (done bool, err error) {
	s := t.e.state
	scanned, i := 0, 0
	for !p.Full() {
		t.skipWindow(&i)
		if i == len(t.window) {
			if t.begun && t.next == 0 {
				t.skipToEnd(p)
				return true, nil
			}
			if scanned > scanAtMost {
				p.Skip(t.next)
				p.more = true
				return true, nil
			}
			read := len(t.window)
			replaced, err := t.readWindow()
			if err != nil || replaced {
				return false, err
			}
			scanned += max(len(t.window)-read, scanAtLeast)
			continue
		}
		m := &t.window[i]
		i++
		if !s.keyed && m.Seq < t.top.trim {
			p.Skip(m.Seq + 1)
			continue
		}
		if !t.e.filter.Match(m.Key) {
			t.e.share.Add(1, 0)
			p.Skip(m.Seq + 1)
			continue
		}
		t.e.share.Add(1, 1)
		read := backlog.Message{Seq: m.Seq, Key: keyHash(m.Key)}
		if p.Of(read) == backlog.Fresh {
			if !room.Take(m.size) {
				return true, nil
			}
			p.fresh = append(p.fresh, *m)
		}
		p.Read(read)
	}
	return true, nil
}

// skipWindow leaves out of the window what the consumer has read.
func (t *transaction) skipWindow(i *int) {
	for *i < len(t.window) && t.window[*i].Seq < t.e.state.Next() {
		*i++
	}
}

// skipToEnd says that everything is read which the stream had when the transaction began, and everything in the window.
func (t *transaction) skipToEnd(p *receivePlan) {
	p.Skip(t.top.next)
	if n := len(t.window); n > 0 {
		p.Skip(t.window[n-1].Seq + 1)
	}
}

// readWindow reads more of the stream into the window. In a stream with one message per key, what it reads has replaced
// earlier messages: replaced says that some of them were available or delayed.
func (t *transaction) readWindow() (replaced bool, err error) {
	if !t.begun {
		t.begun, t.next = true, max(t.e.state.Next(), t.top.trim)
	}
	if t.next >= t.top.next { // the end of the stream is known
		t.next = 0
		return false, nil
	}
	messages, next, err := t.read(t.next)
	if err != nil {
		return false, err
	}
	t.window, t.next = append(t.window, messages...), next
	if !t.e.state.keyed {
		return false, nil
	}
	var gone []int64
	for i := range messages {
		if seq, onLease, ok := t.e.state.Head(keyHash(messages[i].Key)); ok && !onLease && seq < messages[i].Seq {
			gone = append(gone, seq)
		}
	}
	if len(gone) > 0 {
		t.gone(slices.Compact(gone))
	}
	return len(gone) > 0, nil
}

// sharedFor is how many transactions without decisions of others it takes until a replica counts as the only one that serves
// a consumer.
const sharedFor = 8

// seek reads the messages of keys that have left some out.
func (t *transaction) seek() error {
	s := t.e.state
	for s.Seeks() > 0 {
		found := map[backlog.Hash]*backlog.Sought{}
		from := s.Next()
		s.Seeking(func(key backlog.Hash, more int64) {
			found[key] = &backlog.Sought{Key: key}
			from = min(from, more)
		})
		for seq := max(from, t.top.trim); seq > 0 && seq < s.Next(); {
			messages, next, err := t.e.st.readRun(t.s, t.e.row.stream, seq, readRows)
			if err != nil {
				return err
			}
			for i := range messages {
				m := &messages[i]
				if k := found[keyHash(m.Key)]; k != nil && m.Seq < s.Next() && t.e.filter.Match(m.Key) {
					k.Seqs = append(k.Seqs, m.Seq)
				}
			}
			seq = next
		}
		all := make([]backlog.Sought, 0, len(found))
		for _, k := range found {
			all = append(all, *k)
		}
		rec := s.PlanSeek(t.now, t.e.st.options.maxMet, t.sought(all))
		t.d.addReceive(rec)
		s.Receive(rec, nil)
	}
	return nil
}

// sought leaves out of what was found what lies before the messages that a key left out.
func (t *transaction) sought(all []backlog.Sought) []backlog.Sought {
	more := map[backlog.Hash]int64{}
	t.e.state.Seeking(func(key backlog.Hash, seq int64) { more[key] = seq })
	for i := range all {
		all[i].Seqs = slices.DeleteFunc(all[i].Seqs, func(seq int64) bool { return seq < more[all[i].Key] })
	}
	return all
}
