package store

import "time"

// base is what both kinds of consumers have in common: everything but how messages are leased. The stream's lock guards
// it.
type base struct {
	self   consumerKind
	stream *stream
	info   ConsumerInfo
	filter filter
	gone   error // why nothing works any more
	line   line
}

// consumerKind is what a kind of consumers does in its own way. All methods want the stream's lock held.
type consumerKind interface {
	consumer
	receive(n int, dst []Delivery) ([]Delivery, error)
	settleAll(ids []ID, how Settlement)
	// limited tells that the limits changed.
	limited()
	// views calls f with every message that is not settled, by ascending seq, until it returns false.
	views(f func(View) bool)
	// outstanding lists the leases by ascending seq.
	outstanding() []Outstanding
}

func (b *base) identity() (id, name, filter string) { return b.info.ID, b.info.Name, b.info.Filter }

func (b *base) Info() ConsumerInfo {
	b.stream.mu.Lock()
	defer b.stream.mu.Unlock()
	return b.info
}

// Update takes effect at once; leases that are out keep their end.
func (b *base) Update(limits ConsumerLimits) (ConsumerInfo, error) {
	b.stream.mu.Lock()
	defer b.stream.mu.Unlock()
	if b.gone != nil {
		return ConsumerInfo{}, b.gone
	}
	b.info.ConsumerLimits = limits
	b.info.UpdatedAt = time.Now()
	b.self.limited()
	b.changed()
	return b.info, nil
}

func (b *base) Delete() error {
	b.stream.mu.Lock()
	defer b.stream.mu.Unlock()
	if !b.stream.removeLocked(b.self) {
		return ErrNoConsumer
	}
	return nil
}

func (b *base) Receive(n int, dst []Delivery) ([]Delivery, error) {
	b.stream.mu.Lock()
	defer b.stream.mu.Unlock()
	dst, err := b.self.receive(n, dst)
	if err == nil {
		// A timer for what was leased just now: somebody may wait while the window is full.
		b.changed()
	}
	return dst, err
}

func (b *base) Queue() (Place, error) {
	b.stream.mu.Lock()
	defer b.stream.mu.Unlock()
	if b.gone != nil {
		return nil, b.gone
	}
	if len(b.line.places) >= b.info.MaxWaiting {
		return nil, ErrTooManyWaiting
	}
	p := &place{line: &b.line, receive: b.self.receive, ready: make(chan struct{}, 1)}
	b.line.places = append(b.line.places, p)
	b.line.update()
	return p, nil
}

func (b *base) Settle(ids []ID, how Settlement) error {
	b.stream.mu.Lock()
	defer b.stream.mu.Unlock()
	if b.gone != nil {
		return b.gone
	}
	b.self.settleAll(ids, how)
	b.changed()
	return nil
}

func (b *base) changed() { b.line.update() }

func (b *base) close(why error) {
	if b.gone == nil {
		b.gone = why
		b.line.close()
	}
}

func (b *base) Peek(q PeekQuery) []View {
	b.stream.mu.Lock()
	defer b.stream.mu.Unlock()
	f := newFilter(q.Pattern)
	var out []View
	b.self.views(func(v View) bool {
		if q.Visible != nil && *q.Visible != (v.State == Available) || q.Pattern != "" && !f.match(v.Message.Key) {
			return true
		}
		out = append(out, v)
		// What the other order begins with is known only at the end.
		return q.Desc || len(out) < q.Limit
	})
	if q.Desc {
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
	}
	return out[:min(len(out), q.Limit)]
}

func (b *base) State() ConsumerState {
	b.stream.mu.Lock()
	defer b.stream.mu.Unlock()
	s := ConsumerState{Info: b.info, Waiting: len(b.line.places), Outstanding: b.self.outstanding()}
	b.self.views(func(v View) bool {
		if v.State == Available {
			s.Available++
		}
		return true
	})
	return s
}
