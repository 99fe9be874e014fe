package flow

import "time"

// share is the most that one receive asks for. It follows what gets through: a proxy may cut or refuse a large answer, and a
// slow link may need too long for it. The messages of an answer that is lost cannot be had until their leases end, so that
// a size which is known to be too large is tried again only once a minute.
type share struct {
	now, most int
	proven    bool // an answer has arrived since the last one was lost

	tooLarge int // the smallest size that is known to be too large; 0 if none is
	until    time.Time
}

// tooLargeFor is how long a size that is too large is not tried again.
const tooLargeFor = time.Minute

// Lost halves what receives ask for, because the answer to one that asked for so many was lost, cut, refused by a proxy or
// too slow. certain says that its size is known to be the reason. It is taken to be the reason also if smaller answers have
// arrived before. Otherwise it may be an outage, in which answers of any size are lost, and the share grows again as fast as
// it shrank.
//
// The size of the Window stays: a batch handler that needs more gets it by several receives.
func (w *Window) Lost(now time.Time, ask int, certain bool) {
	s := &w.share
	if certain || s.proven && s.now < s.most {
		s.tooLarge, s.until = ask, now.Add(tooLargeFor)
	}
	s.proven = false
	s.now = max(1, min(s.now, ask/2))
}

// Arrived notes that an answer with n messages has arrived in time. Receives ask for twice as many if the share limited this
// one.
func (w *Window) Arrived(now time.Time, n int) {
	s := &w.share
	s.proven = true
	if n < s.now || s.now == s.most {
		return
	}
	next := min(2*s.now, s.most)
	if s.tooLarge > 0 && next >= s.tooLarge {
		if now.Before(s.until) {
			return
		}
		s.tooLarge = 0
	}
	s.now = next
}
