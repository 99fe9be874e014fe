package durable

import "github.com/sequin-go/sequin/server/durable/internal/seglog"

// seqAt returns the seq of the first message that was stored at a time or later, or that of the next message, and the record
// that must be committed before it may be shown. Times never go back, so that it is a binary search. It is called without
// the lock.
func (s *stream) seqAt(at int64) (seq int64, seen seglog.Pos, err error) {
	var low, high int64 // the message is one from low to before high, or at found
	if err := s.snapshot(func() { low, high = s.first, s.last+1 }); err != nil {
		return 0, 0, err
	}
	found := high
	for low < high {
		middle := low + (high-low)/2
		seq, updatedAt := high, at
		err := s.scan(middle, func(m *rawMessage) bool {
			seq, updatedAt = m.seq, m.updatedAt
			return false
		})
		switch {
		case err != nil:
			return 0, 0, err
		case seq >= high:
			high = middle
		case updatedAt >= at:
			high, found = middle, seq
		default:
			low = seq + 1
		}
	}
	return found, s.seen(), nil
}
