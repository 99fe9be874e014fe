package server

import (
	"context"
	"hash/maphash"
	"sync"
)

// maxKeyedSends is how many successful sends of a stream are remembered. At 1,000 requests per second that is ten
// seconds, much longer than a client's attempts at one request take.
const maxKeyedSends = 10_000

// maxIdempotencyKey limits the memory of 10,000 keys to 2.5 MB a stream. A UUID has 36 characters.
const maxIdempotencyKey = 255

// bodySeed makes the hashes of bodies unpredictable, so that 64 bits are enough to tell two bodies of one key apart.
var bodySeed = maphash.MakeSeed()

// keyedSends remembers the sends of all streams that have an Idempotency-Key. The zero value is empty.
type keyedSends struct {
	streams sync.Map // stream id to *streamSends
}

// once runs send, or returns the result of an earlier send to the stream with the same key and body.
func (k *keyedSends) once(ctx context.Context, streamID, key string, body []byte, send func() (int, error)) (int, error) {
	all, _ := k.streams.LoadOrStore(streamID, newStreamSends())
	return all.(*streamSends).once(ctx, key, body, send)
}

// forget forgets a deleted stream.
func (k *keyedSends) forget(streamID string) { k.streams.Delete(streamID) }

// streamSends remembers the sends of one stream by their Idempotency-Key.
type streamSends struct {
	mu        sync.Mutex // guards what follows; not held while a send runs
	byKey     map[string]*keyedSend
	succeeded []*keyedSend // a ring, oldest first from next once it is full
	next      int
}

// keyedSend is a send that runs or has succeeded.
type keyedSend struct {
	key       string
	body      uint64        // hash
	done      chan struct{} // closed when the send has run and the following are set
	ok        bool
	published int
}

func newStreamSends() *streamSends { return &streamSends{byKey: map[string]*keyedSend{}} }

// once runs send unless a send with this key has succeeded, and otherwise returns that one's result. While such a send
// runs, once waits for it. When that send fails it is forgotten, and one of those that wait runs its own.
func (s *streamSends) once(ctx context.Context, key string, body []byte, send func() (int, error)) (int, error) {
	hash := maphash.Bytes(bodySeed, body)
	for {
		k, isNew := s.begin(key, hash)
		if isNew {
			return s.run(k, send)
		}
		if k.body != hash {
			return 0, errOtherBody
		}
		select {
		case <-k.done:
		case <-ctx.Done():
			return 0, errStillRunning
		}
		if k.ok {
			return k.published, nil
		}
	}
}

// begin returns the send with this key, or a new one that the caller has to run.
func (s *streamSends) begin(key string, body uint64) (k *keyedSend, isNew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.byKey[key]; k != nil {
		return k, false
	}
	k = &keyedSend{key: key, body: body, done: make(chan struct{})}
	s.byKey[key] = k
	return k, true
}

// run runs the send. It forgets the send if it fails or panics.
func (s *streamSends) run(k *keyedSend, send func() (int, error)) (_ int, err error) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if k.ok {
			s.remember(k)
		} else {
			delete(s.byKey, k.key)
		}
		close(k.done)
	}()
	k.published, err = send()
	k.ok = err == nil
	return k.published, err
}

// remember keeps a send that succeeded, in place of the oldest once there are maxKeyedSends. It requires the lock.
func (s *streamSends) remember(k *keyedSend) {
	if len(s.succeeded) < maxKeyedSends {
		s.succeeded = append(s.succeeded, k)
		return
	}
	delete(s.byKey, s.succeeded[s.next].key)
	s.succeeded[s.next] = k
	s.next = (s.next + 1) % maxKeyedSends
}
