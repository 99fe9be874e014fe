// Package simtest runs the simulation of internal/sim over the durable store, whose process ends again and again.
package simtest

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sequin-go/sequin/server/durable"
	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

const dir = "/data"

// crashing is a durable store on a file system in memory whose process ends between any two changes of the files: the store
// is opened again on what was written. Connections are cut. A loss of power may end leases early, which the checks of the
// simulation do not allow; package torture has that.
//
// An operation that runs during a crash may have taken place or not. Its client gets no answer. The simulation has to know
// nevertheless what the server did, so such an operation is made again on the opened store: what it did before the crash is
// recognized by then.
type crashing struct {
	options durable.Options
	random  *rand.Rand
	cut     func()
	log     func(format string, args ...any)
	crashes int // that are left

	mu      sync.Mutex // guards what follows
	fs      *crashfs.FS
	next    int // changes until the next crash
	current *opening
	armed   bool // the streams and consumers exist
	closed  bool
	old     sync.WaitGroup // the stores that are ended
}

// opening is the time from one crash to the next.
type opening struct {
	ready chan struct{} // closed when the store is open
	ended chan struct{} // closed by the crash
	st    *durable.Store
	err   error
}

// open opens an empty store that crashes up to so many times.
func open(options durable.Options, crashes int, random *rand.Rand, cut func(), log func(string, ...any)) (*crashing, error) {
	c := &crashing{options: options, random: random, cut: cut, log: log, crashes: crashes, fs: crashfs.New()}
	c.begin()
	return c, c.current.err
}

// begin opens the store on the file system.
func (c *crashing) begin() {
	fs, o := c.fs, &opening{ready: make(chan struct{}), ended: make(chan struct{})}
	c.current = o
	options := c.options
	options.FS = fs
	o.st, o.err = durable.Open(dir, options)
	close(o.ready)
	c.next = 1 + c.random.IntN(300)
	fs.SetHook(func(op crashfs.Op) error { return c.change(o, op) })
}

// arm lets the store crash from now on.
func (c *crashing) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = true
}

// change is called before every change of a file. It returns an error after the crash.
func (c *crashing) change(o *opening, op crashfs.Op) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != o {
		return store.ErrClosed // the process has ended
	}
	if c.next--; c.next > 0 || c.crashes == 0 || !c.armed || c.closed {
		return nil
	}
	c.crashes--
	c.log("%s: crash before %s of %s at %d", time.Now().Format("04:05.000000"), op.Kind, op.Name, op.Offset)
	c.fs = c.fs.Crash(1, c.random)
	close(o.ended)
	c.current = &opening{ready: make(chan struct{})}
	c.old.Go(func() { c.restart(o) })
	return store.ErrClosed
}

// restart ends the old store, whose files cannot be changed any more, and opens the new one.
func (c *crashing) restart(old *opening) {
	c.cut()
	_ = old.st.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := c.current.ready
	c.begin()
	close(waiting)
}

// Extended implements store.Extended.
func (c *crashing) Extended() {}

// KeepsHeaders implements store.KeepsHeaders.
func (c *crashing) KeepsHeaders() {}

// Close implements store.Store.
func (c *crashing) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.old.Wait()
	return c.current.st.Close()
}

// running returns the store, and waits for it while it is opened.
func (c *crashing) running() *opening {
	for {
		c.mu.Lock()
		o := c.current
		c.mu.Unlock()
		<-o.ready
		if o.st != nil || o.err != nil {
			return o
		}
	}
}

// crashed reports whether the store has crashed since. What was answered before that is stored.
func (o *opening) crashed() bool {
	select {
	case <-o.ended:
		return true
	default:
		return false
	}
}

// on makes an operation, and again after each crash that it meets.
func on[T any](c *crashing, op func(*durable.Store) (T, error)) (T, error) {
	for {
		o := c.running()
		if o.err != nil {
			var none T
			return none, o.err
		}
		if v, err := op(o.st); !o.crashed() {
			return v, err
		}
	}
}

// do is on for an operation without a result.
func do(c *crashing, op func(*durable.Store) error) error {
	_, err := on(c, func(st *durable.Store) (struct{}, error) { return struct{}{}, op(st) })
	return err
}

func (c *crashing) ID() string { return c.running().st.ID() }

func (c *crashing) Probe(ctx context.Context) error {
	return do(c, func(st *durable.Store) error { return st.Probe(ctx) })
}

func (c *crashing) CreateStream(ctx context.Context, o store.StreamOptions) (store.Stream, error) {
	return on(c, func(st *durable.Store) (store.Stream, error) { return c.stream(st.CreateStream(ctx, o)) })
}

func (c *crashing) Stream(ctx context.Context, ref string) (store.Stream, error) {
	return on(c, func(st *durable.Store) (store.Stream, error) { return c.stream(st.Stream(ctx, ref)) })
}

func (c *crashing) stream(s store.Stream, err error) (store.Stream, error) {
	if err != nil {
		return nil, err
	}
	return &stream{c, s.ID()}, nil
}

func (c *crashing) Streams(ctx context.Context) ([]store.Stream, error) {
	return on(c, func(st *durable.Store) ([]store.Stream, error) {
		all, err := st.Streams(ctx)
		for i := range all {
			all[i] = &stream{c, all[i].ID()}
		}
		return all, err
	})
}

func (c *crashing) Consumer(ctx context.Context, ref string) (store.Consumer, error) {
	return on(c, func(st *durable.Store) (store.Consumer, error) { return c.consumer(st.Consumer(ctx, ref)) })
}

func (c *crashing) consumer(h store.Consumer, err error) (store.Consumer, error) {
	if err != nil {
		return nil, err
	}
	return &consumer{c, h.StreamID(), h.ID()}, nil
}
