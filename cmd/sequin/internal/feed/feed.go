// Package feed sends the lines of a file as messages, in batches that are the same in every run: the lines from a byte offset
// on. A run that was interrupted can therefore be continued, and each batch has one idempotency key in all runs.
package feed

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
)

const (
	// inFlight is how many batches are sent at once, as the Publisher does by default.
	inFlight = 4
	// ahead is how many batches are in memory: those in flight, and those that are being parsed. It is also how many may be sent
	// beyond the position that OnProgress has saved.
	ahead = 2 * inFlight
	// saveAt is how many batches behind the saved position end before the next one is saved, unless saveAfter has passed since.
	// It is half of those that are ahead and not in flight: the other half may end while the position is saved. With all of them
	// a send to a server in memory was 5% slower.
	saveAt = (ahead - inFlight) / 2
	// saveAfter is short for a person who watches the progress. Saving takes about a millisecond.
	saveAfter = 10 * time.Millisecond
	// retryFor is how long a batch is sent again after the server has last taken one. A restart of a server takes less.
	retryFor = time.Minute
	// retryAfter is the pause before that. The client has repeated the request with its own pauses already.
	retryAfter = time.Second
	// hopeless is how many lines a run refuses before the first is taken, until the feed gives up.
	hopeless = 1000
)

var errHopeless = errors.New("every line so far is refused, check the file and --key")

// Config says what is sent, and how.
type Config struct {
	Input io.Reader // begins at Start
	Start Position
	ID    string // of the file and all runs that send it, for the idempotency keys
	Lines int    // in a batch, at most 1,000
	// Live says that Input is a pipe or a terminal. Its batches do not wait for lines that are not there, and when ctx ends,
	// what was read is sent, because no later run can read it.
	Live bool

	// Parse makes a message of a line. It is called concurrently. Its error refuses the line.
	Parse func(line []byte) (sequin.Message, error)
	// Send sends messages as one request with that idempotency key. It is called concurrently.
	Send func(ctx context.Context, key string, messages []sequin.Message) error
	// Wait waits until n more messages may be sent; nil for no limit.
	Wait func(ctx context.Context, n int) error
	// OnRefused is called for each line that cannot be sent, by the goroutine that calls OnProgress.
	OnRefused func(Refused)
	// OnProgress is called when Position has moved, by one goroutine, after OnRefused for the lines before it. Batches are sent
	// meanwhile, but no more than ahead beyond the position for which it has returned. Its error ends the feed.
	OnProgress func(Position) error
}

// Position says how far the file is sent. All lines before it are sent or refused.
type Position struct {
	Offset  int64 `json:"offset"` // of the next byte
	Line    int64 `json:"line"`   // lines before it
	Sent    int64 `json:"sent"`
	Refused int64 `json:"refused"`
	// InFlight is how many messages behind it may be stored already, at most.
	InFlight int64 `json:"in_flight"`
}

// MaxInFlight is Position.InFlight while a feed with so many lines in a batch runs.
func MaxInFlight(lines int) int64 { return ahead * int64(lines) }

// Refused is a line that cannot be sent.
type Refused struct {
	Line   int64 // from 1
	Offset int64
	Text   string
	Err    error
}

// feed is a run.
type feed struct {
	Config
	sendCtx context.Context

	mu      sync.Mutex     // guards the rest
	changed sync.Cond      // a batch has ended
	keys    map[uint64]int // hashes of the keys in flight, with the number of batches that have them
	flying  int
	window  []*batch  // from the first that has not ended, in the order of the file
	pos     Position  // its InFlight is that of Config.Start
	passed  int       // batches before pos that OnProgress does not know yet
	listed  []Refused // of these batches
	ended   bool      // nothing more is sent
	read    bool      // the end of the input is reached
	alive   time.Time // when the server has last taken a batch; zero for never
	err     error     // the first; nothing is sent after it
}

// Run sends the input. It stops reading when ctx ends, or after the first error, and then waits for what is in flight, which
// sendCtx ends. It returns how far everything is sent. A Read of a live input that waits is left behind.
func Run(ctx, sendCtx context.Context, cfg Config) (Position, error) {
	f := &feed{Config: cfg, sendCtx: sendCtx, keys: map[uint64]int{}, pos: cfg.Start}
	f.changed.L = &f.mu
	admitting := ctx
	if f.Live {
		admitting = sendCtx
	}
	reading, cancel := context.WithCancelCause(admitting)
	defer cancel(nil)
	wake := context.AfterFunc(reading, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.changed.Broadcast()
	})
	defer wake()
	var saving sync.WaitGroup
	saving.Go(f.save)
	parsed := make(chan *batch, ahead)
	input, stop := context.WithCancel(reading)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	go f.cut(reading, newScanner(input, f.Input, f.Live, f.Start, f.Lines), parsed)
	var sending sync.WaitGroup
	skipped := false
	for b := range parsed {
		<-b.parsed
		if !f.admit(reading, b) {
			cancel(nil)
			skipped = true
			continue // the channel ends soon
		}
		sending.Go(func() { f.send(b) })
	}
	sending.Wait()
	f.mu.Lock()
	f.ended = true
	f.changed.Broadcast()
	f.mu.Unlock()
	saving.Wait()
	complete := f.read && !skipped && len(f.window) == 0
	switch {
	case complete && f.err == errHopeless:
		f.err = nil // there is nothing that could be given up
	case !complete && f.err == nil:
		f.err = ctx.Err()
	}
	f.pos.InFlight = f.inDoubt()
	return f.pos, f.err
}

// save calls OnProgress until everything is sent. While it saves a position, the next one moves on, so that a slow disk holds
// the sends up only when they are ahead.
func (f *feed) save() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		for f.passed == 0 && !f.ended {
			f.changed.Wait()
		}
		if f.passed == 0 {
			return
		}
		at, passed, listed := f.pos, f.passed, f.listed
		at.InFlight, f.listed = MaxInFlight(f.Lines), nil
		f.mu.Unlock()
		for _, r := range listed {
			f.OnRefused(r)
		}
		err := f.OnProgress(at)
		f.mu.Lock()
		f.passed -= passed
		if f.err == nil {
			f.err = err
		}
		f.changed.Broadcast()
		f.rest()
	}
}

// rest waits until a position is worth saving again. It requires the lock.
func (f *feed) rest() {
	over := false
	timer := time.AfterFunc(saveAfter, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		over = true
		f.changed.Broadcast()
	})
	defer timer.Stop()
	for !over && !f.ended && f.passed < saveAt {
		f.changed.Wait()
	}
}

// inDoubt returns how many messages behind the position may be stored at the end. Those of an earlier run may be, too.
func (f *feed) inDoubt() int64 {
	n := int64(0)
	for _, b := range f.window {
		n += int64(len(b.messages))
	}
	return max(n, f.Start.InFlight-(f.pos.Sent-f.Start.Sent))
}

// cut reads batches and parses each on a goroutine of its own.
func (f *feed) cut(ctx context.Context, s *scanner, parsed chan<- *batch) {
	defer close(parsed)
	room := make(chan struct{}, ahead)
	for ctx.Err() == nil {
		b, err := s.next()
		if b != nil {
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return
			}
			go func() {
				defer func() { <-room }()
				b.parse(f.ID, f.Parse)
			}()
			select {
			case parsed <- b:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			if err == io.EOF {
				f.reachedEnd()
			} else if err != errStop {
				f.fail(err)
			}
			return
		}
	}
}

func (f *feed) reachedEnd() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read = true
}

func (f *feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	f.changed.Broadcast()
}

// admit waits until the batch may be sent: there is room, and no batch in flight has one of its keys, so that the messages of a
// key keep their order. It returns false when nothing more is to be sent.
func (f *feed) admit(ctx context.Context, b *batch) bool {
	if f.Wait != nil && len(b.messages) > 0 {
		if err := f.Wait(ctx, len(b.messages)); err != nil && ctx.Err() == nil {
			f.fail(err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// The sum bounds how many batches a later run may send again.
	for f.err == nil && ctx.Err() == nil && (f.flying == inFlight || len(f.window)+f.passed == ahead || f.conflicts(b)) {
		f.changed.Wait()
	}
	if f.err != nil || ctx.Err() != nil {
		return false
	}
	f.flying++
	for _, key := range b.keys {
		f.keys[key]++
	}
	f.window = append(f.window, b)
	return true
}

func (f *feed) conflicts(b *batch) bool {
	for _, key := range b.keys {
		if f.keys[key] > 0 {
			return true
		}
	}
	return false
}

// send sends a batch, and moves the position.
func (f *feed) send(b *batch) {
	err := f.deliver(b, b.key, b.messages, b.lines)
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.changed.Broadcast()
	f.flying--
	for _, key := range b.keys {
		if f.keys[key]--; f.keys[key] == 0 {
			delete(f.keys, key)
		}
	}
	if err != nil {
		if f.err == nil {
			f.err = err
		}
		return
	}
	b.ended = true
	f.advance()
}

// advance moves the position over the batches that have ended. It requires the lock.
func (f *feed) advance() {
	for len(f.window) > 0 && f.window[0].ended {
		b := f.window[0]
		f.window = f.window[1:]
		f.passed++
		f.pos.Offset, f.pos.Line = b.end.Offset, b.end.Line
		f.pos.Sent += b.sent
		f.pos.Refused += int64(len(b.refused))
		slices.SortFunc(b.refused, func(x, y Refused) int { return cmp.Compare(x.Line, y.Line) })
		f.listed = append(f.listed, b.refused...)
	}
	if f.pos.Sent == 0 && f.pos.Refused-f.Start.Refused >= hopeless && f.err == nil {
		f.err = errHopeless
	}
}
