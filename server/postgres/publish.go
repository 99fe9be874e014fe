package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/server/internal/headers"
	"github.com/sequin-go/sequin/server/internal/store"
)

const (
	// groupMessages and groupBytes bound what one transaction publishes, so that it holds the lock for some milliseconds.
	groupMessages = 4000
	groupBytes    = 4 << 20
	// rememberFor is how long a stream remembers its successful sends, and rememberMost how many of them.
	rememberFor  = 10 * time.Minute
	rememberMost = 1_000_000
)

// sending is a Send that waits for its transaction.
type sending struct {
	token    uuid.UUID // zero for none
	body     uuid.UUID
	parents  []uuid.UUID
	messages []store.Message
	bytes    int64
	chunks   []madeChunk // of a large send to a stream that appends
	forCopy  bool        // the same, and the stream is marked as one that is being copied
	staged   bool        // the messages are what transactions have left: see takeStaged
	purge    *purge      // it removes messages instead
	restore  *restore    // it stores what a copy brings instead

	done      chan struct{} // closed when the result is there
	published int
	err       error
	repeated  bool // an earlier send is the result
}

// tokenOf returns what stands for an idempotency key.
func tokenOf(key string) (token uuid.UUID) {
	sum := sha256.Sum256([]byte(key))
	copy(token[:], sum[:])
	return token
}

// publisher publishes to one stream. It gathers what is sent while a transaction is under way.
type publisher struct {
	st      *Store
	stream  streamRow
	queue   combiner[*sending]
	running atomic.Int32 // groups
}

func (st *Store) publisherOf(row streamRow) *publisher {
	return st.streams.get(row.id, func() *publisher { return &publisher{st: st, stream: row} })
}

// send publishes messages and waits for it.
func (p *publisher) send(ctx context.Context, o store.Once, messages []store.Message) (int, error) {
	x := &sending{messages: copied(messages), done: make(chan struct{})}
	for i := range messages {
		x.bytes += messages[i].Size()
	}
	if o.Key != "" {
		x.token, x.body = tokenOf(o.Key), uuid.UUID(store.HashBody(o.Body))
	}
	for _, key := range o.PartOf {
		if key != "" {
			x.parents = append(x.parents, tokenOf(key))
		}
	}
	if !p.stream.OneMessagePerKey {
		x.encode(p.stream.id)
	}
	if p.queue.add(x) {
		p.goOn()
	}
	select {
	case <-x.done:
		return x.published, x.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", store.ErrUnknown, context.Cause(ctx))
	}
}

// copied copies messages with their strings, which the caller may use again when its ctx has ended. The transaction may
// outlive that. All strings share one allocation.
func copied(messages []store.Message) []store.Message {
	size := int64(0)
	for i := range messages {
		size += messages[i].Size()
	}
	var text strings.Builder
	text.Grow(int(size))
	for i := range messages {
		text.WriteString(messages[i].Key)
		text.WriteString(string(messages[i].Headers))
		text.WriteString(messages[i].Data)
	}
	rest := text.String()
	out := make([]store.Message, len(messages))
	for i := range messages {
		m := &messages[i]
		begin := len(m.Key) + len(m.Headers)
		end := begin + len(m.Data)
		out[i] = store.Message{Key: rest[:len(m.Key)], Headers: headers.Packed(rest[len(m.Key):begin]), Data: rest[begin:end]}
		rest = rest[end:]
	}
	return out
}

// closed answers what was added after Close.
func (p *publisher) closed() {
	for all := p.queue.take(everything[*sending]); all != nil; all = p.queue.take(everything[*sending]) {
		answer(all, store.ErrClosed)
	}
}

func everything[T any](all []T) int { return len(all) }

// goOn publishes what waits, on a goroutine of its own.
func (p *publisher) goOn() {
	if !p.st.spawn(p.run) {
		p.closed()
	}
}

// groupsAtOnce is how many groups of a stream a replica publishes at once: one that has the lock, one that waits for the disk without
// it, and one that waits for the lock.
const groupsAtOnce = 3

// run publishes what waits now. When all that is left to do is up to the database, another goroutine goes on with what has arrived
// meanwhile. What would not share its transaction would wait for the disk otherwise.
func (p *publisher) run() {
	group := p.queue.take(p.fits)
	if group == nil {
		return
	}
	p.running.Add(1)
	next := sync.OnceFunc(p.goOn)
	p.publishAnd(group, func() {
		if p.running.Load() < groupsAtOnce {
			next()
		}
	})
	p.running.Add(-1)
	next()
}

// fits returns how many of the sends one transaction publishes. Of a bounded stream it is one, because it may be refused.
func (p *publisher) fits(all []*sending) int {
	if p.stream.MaxBytes > 0 {
		return 1
	}
	messages, bytes := 0, int64(0)
	keys := map[string]bool{}
	tokens := map[uuid.UUID]bool{}
	for i, x := range all {
		messages, bytes = messages+len(x.messages), bytes+x.bytes
		if depends := p.depends(x, keys, tokens); i > 0 && (depends || messages > groupMessages || bytes > groupBytes) {
			return i
		}
	}
	return len(all)
}

// depends reports whether a send must see the result of one before it: it repeats its key, is a part of it, or replaces a
// message of it.
func (p *publisher) depends(x *sending, keys map[string]bool, tokens map[uuid.UUID]bool) bool {
	for _, token := range append([]uuid.UUID{x.token}, x.parents...) {
		if tokens[token] {
			return true
		}
	}
	if x.token != uuid.Nil {
		tokens[x.token] = true
	}
	if !p.stream.OneMessagePerKey {
		return false
	}
	for i := range x.messages {
		if keys[x.messages[i].Key] {
			return true
		}
	}
	for i := range x.messages {
		keys[x.messages[i].Key] = true
	}
	return false
}

func answer(group []*sending, err error) {
	for _, x := range group {
		if err != nil {
			x.published, x.err = 0, err
		}
		close(x.done)
	}
}

// publish publishes a group in one transaction. When it is not known whether that took place, the next attempt looks for
// the mark that it has left.
func (p *publisher) publish(group []*sending) { p.publishAnd(group, func() {}) }

// publishAnd is publish. It calls decided when the rest of the transaction is up to the database, and again if it is repeated.
func (p *publisher) publishAnd(group []*sending, decided func()) {
	t := publishing{p: p, group: group, mark: uuid.New(), decided: decided}
	err := p.st.retry(p.st.ctx, t.attempt)
	if err != nil && t.unknown && !errors.Is(err, store.ErrUnknown) {
		err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	if errors.Is(err, store.ErrNoStream) {
		p.st.streams.remove(p.stream.id)
	}
	if err == nil && t.stored {
		p.st.wake.streamChanged(p.stream.id)
	}
	answer(group, err)
}
