package backlog

// Plan decides what one receive leases. It changes nothing: the caller shows it the messages of the stream, writes down the
// Receive that results, and applies it.
type Plan struct {
	b       *Backlog
	r       Receive
	room    int
	maxMet  int
	planned map[Hash]bool // keys of fresh messages and of keys that leave out; true for the latter
}

// Plan starts the plan of a receive of up to n messages at a time. Leases that have ended by then must be expired. maxMet
// is MaxMet; tests make it smaller.
func (b *Backlog) Plan(n int, now int64, opening uint64, maxMet int) *Plan {
	p := &Plan{b: b, room: min(n, b.Room()), maxMet: maxMet}
	p.r = Receive{Now: now, Lease: b.NextLease(opening), Length: b.limits.AckWait, Next: b.next}
	return p
}

// TakeReady leases the next of the ready messages, in the order of TopReady. The plan must not be full. It comes before
// Read.
func (p *Plan) TakeReady() {
	p.r.Ready++
	p.room--
}

// PlanSeek plans what was found of the keys that seek. Of the seqs of a key it keeps those for which there is room, but at
// least one. It leases nothing: a key that was found is ready for the next plan.
func (b *Backlog) PlanSeek(now int64, maxMet int, found []Sought) *Receive {
	r := &Receive{Now: now, Lease: b.lease, Next: b.next}
	met := b.met
	for _, s := range found {
		if it := b.heads[s.Key]; it == nil || it.seq != 0 {
			continue
		}
		if room := max(1, maxMet-met); len(s.Seqs) > room {
			s.More = s.Seqs[room]
			s.Seqs = s.Seqs[:room]
		}
		met += len(s.Seqs)
		r.Sought = append(r.Sought, s)
	}
	return r
}

// Full reports whether the plan takes no more messages.
func (p *Plan) Full() bool { return p.room <= 0 }

// Skip says that everything below next is filtered out or dead.
func (p *Plan) Skip(next int64) { p.r.Next = max(p.r.Next, next) }

// Of returns what a message would be if it was read now.
func (p *Plan) Of(m Message) Key {
	if p.b.SettledAhead(m.Seq) {
		return Settled
	}
	if leftOut, again := p.planned[m.Key]; leftOut {
		return LeftOut
	} else if again {
		return Waits
	}
	return p.b.Of(m.Key)
}

// Read reads the next living message that matches the consumer's filter. A fresh message is leased. The plan must not be
// full.
func (p *Plan) Read(m Message) {
	p.Skip(m.Seq + 1)
	switch kind := p.Of(m); {
	case kind == Settled || kind == LeftOut:
	case kind == Fresh:
		p.plan(m.Key, false)
		p.r.Fresh = append(p.r.Fresh, m)
		p.room--
	case p.b.met+len(p.r.Met) < p.maxMet:
		p.r.Met = append(p.r.Met, m)
	default:
		p.plan(m.Key, true)
		p.r.Left = append(p.r.Left, m)
	}
}

func (p *Plan) plan(key Hash, leftOut bool) {
	if p.planned == nil {
		p.planned = map[Hash]bool{}
	}
	p.planned[key] = leftOut
}

// Receive returns what was decided.
func (p *Plan) Receive() *Receive { return &p.r }
