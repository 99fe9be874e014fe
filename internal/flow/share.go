package flow

import "time"

// share is how many messages one receive asks for at most. It follows the size of the answers that get through, because a
// proxy may cut or refuse a large answer, and a slow link may need too long for it. The messages of a lost answer are not
// available until their leases end, so a size that is known to be too large is tried again only once a minute.
type share struct {
	size, largest int
	proven        bool // an answer has arrived since the last one was lost

	tooLarge int       // the latest size that was found to be too large; 0 if there is none
	until    time.Time // until then tooLarge is not tried again
}

// tooLargeFor is how long a size that is too large is not tried again.
const tooLargeFor = time.Minute

// Lost halves the number of messages that receives ask for, because the answer to a receive that asked for ask messages was
// lost, cut, refused by a proxy or too slow. certain reports whether the size of the answer is known to be the reason. It
// is also assumed to be the reason if smaller answers have arrived before. Otherwise an outage may be the reason, in which
// answers of any size are lost, and the share grows again as fast as it shrank.
//
// The size of the Window does not change: a batch handler that needs more messages gets them by several receives.
func (w *Window) Lost(now time.Time, ask int, certain bool) {
	s := &w.share
	if certain || s.proven && s.size < s.largest {
		s.tooLarge, s.until = ask, now.Add(tooLargeFor)
	}
	s.proven = false
	s.size = max(1, min(s.size, ask/2))
}

// Arrived records that an answer with n messages has arrived in time. Receives ask for twice as many if the share limited
// this one.
func (w *Window) Arrived(now time.Time, n int) {
	s := &w.share
	s.proven = true
	if n < s.size || s.size == s.largest {
		return
	}
	next := min(2*s.size, s.largest)
	if s.tooLarge > 0 && next >= s.tooLarge {
		if now.Before(s.until) {
			return
		}
		s.tooLarge = 0
	}
	s.size = next
}
