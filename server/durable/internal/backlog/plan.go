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
	p.r.Ready = min(p.room, b.Ready())
	p.room -= p.r.Ready
	return p
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

// Read shows the next living message that matches the consumer's filter. The plan must not be full. It reports whether the
// message is leased.
func (p *Plan) Read(m Message) (leased bool) {
	p.Skip(m.Seq + 1)
	if p.b.SettledAhead(m.Seq) {
		return false
	}
	kind := p.b.Of(m.Key)
	if leftOut, again := p.planned[m.Key]; again {
		kind = Waits
		if leftOut {
			kind = LeftOut
		}
	}
	switch {
	case kind == LeftOut:
		return false
	case kind == Fresh:
		p.plan(m.Key, false)
		p.r.Fresh = append(p.r.Fresh, m)
		p.room--
		return true
	case p.b.met+len(p.r.Met) < p.maxMet:
		p.r.Met = append(p.r.Met, m)
	default:
		p.plan(m.Key, true)
		p.r.Left = append(p.r.Left, m)
	}
	return false
}

func (p *Plan) plan(key Hash, leftOut bool) {
	if p.planned == nil {
		p.planned = map[Hash]bool{}
	}
	p.planned[key] = leftOut
}

// Receive returns what was decided.
func (p *Plan) Receive() *Receive { return &p.r }
