package store

import "time"

// A stream remembers its successful sends by their key for rememberFor, but at most maxRemembered of them. A client is
// done with its attempts at one send within minutes. A million keys take about 190 MB.
const (
	rememberFor   = 10 * time.Minute
	maxRemembered = 1_000_000
)

// successes remembers the sends of a stream that succeeded. The zero value is not usable. It has no lock of its own: the
// stream's lock makes a send and its record one step, so that a repeat never meets a send that still runs.
type successes struct {
	max            int // maxRemembered; tests make it smaller
	byKey          map[string]*success
	oldest, newest *success
}

// success is a send that succeeded.
type success struct {
	key       string
	body      BodyHash
	published int
	at        time.Time
	next      *success // the one that succeeded after it
}

func newSuccesses() successes { return successes{max: maxRemembered, byKey: map[string]*success{}} }

// find returns what the send may answer without storing anything; found is false when it has to be stored.
func (r *successes) find(o Once, body BodyHash, messages int) (published int, found bool, err error) {
	r.expire(time.Now())
	if k := r.byKey[o.Key]; k != nil {
		if k.body != body {
			return 0, false, ErrOtherBody
		}
		return k.published, true, nil
	}
	for _, whole := range o.PartOf {
		if k := r.byKey[whole]; k != nil {
			// It is no longer known which messages of the whole changed the stream. A part never counts more than the whole.
			return min(messages, k.published), true, nil
		}
	}
	return 0, false, nil
}

// remember keeps a success.
func (r *successes) remember(key string, body BodyHash, published int) {
	if key == "" || r.byKey[key] != nil {
		return
	}
	k := &success{key: key, body: body, published: published, at: time.Now()}
	r.byKey[key] = k
	if r.newest == nil {
		r.oldest = k
	} else {
		r.newest.next = k
	}
	r.newest = k
	if len(r.byKey) > r.max {
		r.forgetOldest()
	}
}

// expire forgets what is older than rememberFor.
func (r *successes) expire(now time.Time) {
	if r.oldest == nil || now.Sub(r.oldest.at) <= rememberFor {
		return
	}
	for r.oldest != nil && now.Sub(r.oldest.at) > rememberFor {
		r.forgetOldest()
	}
	if r.oldest == nil {
		r.byKey = map[string]*success{} // a map keeps the room that it once needed
	}
}

func (r *successes) forgetOldest() {
	delete(r.byKey, r.oldest.key)
	r.oldest = r.oldest.next
	if r.oldest == nil {
		r.newest = nil
	}
}

// sendOnce is send, unless this send or a send that contained it has succeeded. body is the hash of o.Body.
func (s *stream) sendOnce(o Once, body BodyHash, messages []Message) (int, error) {
	if s.ended != nil {
		return 0, s.ended
	}
	published, found, err := s.sent.find(o, body, len(messages))
	if err != nil {
		return 0, err
	}
	if !found {
		if published, err = s.send(messages); err != nil {
			return 0, err
		}
	}
	s.sent.remember(o.Key, body, published)
	return published, nil
}
