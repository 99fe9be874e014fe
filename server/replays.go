package server

import (
	"context"
	"hash/maphash"
	"net/http"
	"sync"
)

// maxReplays is how many successes of a stream are remembered: ten seconds of a thousand requests a second, much longer
// than a client's attempts at one request take.
const maxReplays = 10_000

// maxReplayKey bounds what 10,000 of them cost: 2.5 MB a stream. A UUID has 36 characters.
const maxReplayKey = 255

var (
	errOtherBody = &failure{status: http.StatusUnprocessableEntity, summary: "Idempotency-Key was used with another body"}
	errStillRuns = &failure{status: http.StatusServiceUnavailable, summary: "The first request with this Idempotency-Key still runs"}
)

// bodySeed makes bodies' hashes unpredictable, so that 64 bits are enough to tell two bodies under one key apart.
var bodySeed = maphash.MakeSeed()

// replays remembers the sends of a stream by their Idempotency-Key.
type replays struct {
	mu     sync.Mutex // guards what follows; held for look-ups only
	byKey  map[string]*replay
	oldest []*replay // ring of successes in order, once it is full
	next   int
}

// replay is a send that runs, or one that succeeded.
type replay struct {
	key       string
	body      uint64
	done      chan struct{} // closed when it ran; what follows is set before
	ok        bool
	published int
}

func newReplays() *replays { return &replays{byKey: map[string]*replay{}} }

// once runs send unless a send with this key has succeeded, whose result it returns then. While one runs, it waits: what
// becomes of that one decides. A failure is forgotten, and the first one to wait for it runs next.
func (s *replays) once(ctx context.Context, key string, body []byte, send func() (int, error)) (int, error) {
	hash := maphash.Bytes(bodySeed, body)
	for {
		r, mine := s.begin(key, hash)
		if mine {
			return s.run(r, send)
		}
		if r.body != hash {
			return 0, errOtherBody
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return 0, errStillRuns
		}
		if r.ok {
			return r.published, nil
		}
	}
}

func (s *replays) begin(key string, body uint64) (r *replay, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.byKey[key]; r != nil {
		return r, false
	}
	r = &replay{key: key, body: body, done: make(chan struct{})}
	s.byKey[key] = r
	return r, true
}

// run forgets the send unless it succeeds, also when it panics.
func (s *replays) run(r *replay, send func() (int, error)) (_ int, err error) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.ok {
			s.remember(r)
		} else {
			delete(s.byKey, r.key)
		}
		close(r.done)
	}()
	r.published, err = send()
	r.ok = err == nil
	return r.published, err
}

func (s *replays) remember(r *replay) {
	if len(s.oldest) < maxReplays {
		s.oldest = append(s.oldest, r)
		return
	}
	delete(s.byKey, s.oldest[s.next].key)
	s.oldest[s.next] = r
	s.next = (s.next + 1) % maxReplays
}
