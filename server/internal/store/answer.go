package store

import "slices"

// Size is the size of a message as answers and retention count it.
func (m *Message) Size() int64 { return int64(len(m.Key) + len(m.Data) + len(m.Headers)) }

// AnswerRoom is the room for messages in one answer, MaxAnswerBytes. There is always room for the first.
type AnswerRoom struct {
	taken int64 // bytes
	used  bool
}

// Has reports whether there is room for a message of that size.
func (r *AnswerRoom) Has(size int64) bool { return r.taken+size <= MaxAnswerBytes || !r.used }

// Take takes the room for a message of that size, or returns false if there is none.
func (r *AnswerRoom) Take(size int64) bool {
	if !r.Has(size) {
		return false
	}
	r.taken, r.used = r.taken+size, true
	return true
}

// Peeked collects the views that a Peek returns, from all of a consumer's by ascending seq: the first as many as an answer may
// hold, or the newest if the query is descending.
type Peeked struct {
	query  PeekQuery
	filter Filter
	views  []View
	bytes  int64
}

// NewPeeked returns a Peeked for a query with a positive limit.
func NewPeeked(q PeekQuery) *Peeked { return &Peeked{query: q, filter: NewFilter(q.Pattern)} }

// Add adds a view if the query asks for it. It reports whether later ones may be asked for, too.
func (p *Peeked) Add(v View) (more bool) {
	q := &p.query
	switch {
	case v.Message.Seq <= q.After:
		return true
	case q.Before > 0 && v.Message.Seq >= q.Before:
		return false
	case q.Visible != nil && *q.Visible != (v.State == Available), q.Pattern != "" && !p.filter.Match(v.Message.Key):
		return true
	}
	p.views = append(p.views, v)
	p.bytes += v.Message.Size()
	if !q.Desc {
		return len(p.views) < q.Limit && p.bytes < MaxAnswerBytes
	}
	for len(p.views) > q.Limit || len(p.views) > 1 && p.bytes-p.views[0].Message.Size() >= MaxAnswerBytes {
		p.bytes -= p.views[0].Message.Size()
		p.views = p.views[1:]
	}
	return true
}

// Views returns the views in the order of the query.
func (p *Peeked) Views() []View {
	if p.query.Desc {
		slices.Reverse(p.views)
	}
	return p.views
}
