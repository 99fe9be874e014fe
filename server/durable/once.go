package durable

import (
	"time"

	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// A stream remembers its successful sends for rememberFor, but at most maxRemembered of them, as the store in memory does.
// A million take about 90 MB.
const (
	rememberFor   = int64(10 * time.Minute)
	maxRemembered = 1_000_000
)

// success is a send that succeeded. It never changes.
type success struct {
	key       hash
	body      store.BodyHash
	published int64
	at        int64 // the store's clock
}

// successes remembers the sends of a stream, oldest first.
type successes struct {
	list  []success
	first uint32 // number of list[0]; it may overflow
	byKey map[hash]uint32
}

// once is what identifies a send.
type once struct {
	named  bool
	key    hash
	body   store.BodyHash
	partOf []hash
}

func newOnce(o store.Once) (id once) {
	if o.Key != "" {
		id.named, id.key, id.body = true, hashOf(o.Key), store.HashBody(o.Body)
	}
	for _, key := range o.PartOf {
		if key != "" {
			id.partOf = append(id.partOf, hashOf(key))
		}
	}
	return id
}

func (r *successes) get(key hash, now int64) *success {
	i, ok := r.byKey[key]
	if !ok {
		return nil
	}
	if s := &r.list[i-r.first]; now-s.at <= rememberFor {
		return s
	}
	return nil
}

// find returns what the send may answer without storing anything; found is false when it has to be stored. known reports
// that the key itself is remembered.
func (r *successes) find(id once, now int64, messages int) (published int64, found, known bool, err error) {
	if id.named {
		if s := r.get(id.key, now); s != nil {
			if s.body != id.body {
				return 0, false, true, store.ErrOtherBody
			}
			return s.published, true, true, nil
		}
	}
	for _, whole := range id.partOf {
		if s := r.get(whole, now); s != nil {
			// It is no longer known which messages of the whole changed the stream. A part never counts more than the whole.
			return min(int64(messages), s.published), true, false, nil
		}
	}
	return 0, false, false, nil
}

// remember keeps a success, and forgets those that are too old.
func (r *successes) remember(s success) {
	for len(r.list) > 0 && (s.at-r.list[0].at > rememberFor || len(r.list) >= maxRemembered) {
		r.forgetOldest()
	}
	if r.byKey == nil || len(r.list) == 0 {
		r.byKey = map[hash]uint32{} // a map keeps the room that it once needed
	}
	r.byKey[s.key] = r.first + uint32(len(r.list))
	r.list = append(r.list, s)
}

func (r *successes) forgetOldest() {
	if i := r.byKey[r.list[0].key]; i == r.first {
		delete(r.byKey, r.list[0].key)
	}
	r.list = r.list[1:]
	r.first++
}

// opened makes no success younger than now, so that a clock that was set back does not keep them longer.
func (r *successes) opened(now int64) {
	list := make([]success, len(r.list))
	for i, s := range r.list {
		s.at = min(s.at, now)
		list[i] = s
	}
	r.list = list
}

// frozen returns the list as it is now. Later changes do not touch it.
func (r *successes) frozen() []success { return r.list[:len(r.list):len(r.list)] }

func appendSuccesses(dst []byte, list []success) []byte {
	dst = binary.AppendUint(dst, uint64(len(list)))
	for _, s := range list {
		dst = append(dst, s.key[:]...)
		dst = append(dst, s.body[:]...)
		dst = binary.AppendInt(dst, s.published)
		dst = binary.AppendInt(dst, s.at)
	}
	return dst
}

func readSuccesses(in *binary.Reader) (r successes) {
	for range in.Count(2*len(hash{}) + 2) {
		s := success{key: readHash(in), body: store.BodyHash(readHash(in))}
		s.published, s.at = in.Int(), in.Int()
		if r.byKey == nil {
			r.byKey = map[hash]uint32{}
		}
		r.byKey[s.key] = uint32(len(r.list))
		r.list = append(r.list, s)
	}
	return r
}

func readHash(in *binary.Reader) (h hash) {
	copy(h[:], in.Bytes(len(h)))
	return h
}
