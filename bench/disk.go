package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/durable"
)

// The contenders that keep messages on disk. Each name says when it syncs: compare those that sync alike.
const (
	diskAlways     = "sequin, synced before the answer"
	diskEvery      = "sequin, synced every 100 ms"
	peerAlways     = "JetStream, synced before the answer"
	peerEvery      = "JetStream, synced every 2 min, its default"
	diskSyncPeriod = 100 * time.Millisecond
)

// disk is a server that keeps messages on disk, in this process and over loopback.
type disk interface {
	publish(ctx context.Context, n, size int) (time.Duration, error)
	consume(ctx context.Context, n, size int) (time.Duration, error)
	both(ctx context.Context, n, size int) (time.Duration, error)
	// singles sends n messages from senders that each wait for the answer before the next message. syncs is how often the
	// server has synced meanwhile, 0 when it does not say.
	singles(ctx context.Context, n, senders int) (took time.Duration, syncs int64, err error)
	close()
}

// newDisk returns the contender with a stream and a consumer, in a new directory. With keyed, the stream keeps one message
// per key.
func newDisk(ctx context.Context, name string, keyed bool) (disk, error) {
	switch name {
	case diskAlways:
		return newOwn(ctx, durable.SyncAlways, keyed)
	case diskEvery:
		return newOwn(ctx, durable.SyncEvery(diskSyncPeriod), keyed)
	case peerAlways:
		return newPeer(ctx, peerOptions{storage: jetstream.FileStorage, syncAlways: true, keyed: keyed})
	default:
		return newPeer(ctx, peerOptions{storage: jetstream.FileStorage, keyed: keyed})
	}
}

// own is an embedded server with the durable store.
type own struct {
	settings
	store *durable.Store
	url   string
	keyed bool
	stop  []func()
}

func newOwn(ctx context.Context, policy durable.SyncPolicy, keyed bool) (_ *own, err error) {
	o := &own{keyed: keyed}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	dir, err := tempDir("sequin")
	if err != nil {
		return nil, err
	}
	o.stop = append(o.stop, func() { _ = os.RemoveAll(dir) })
	if o.store, err = durable.Open(dir, durable.Options{Sync: policy}); err != nil {
		return nil, err
	}
	o.stop = append(o.stop, func() { _ = o.store.Close() })
	srv := server.New(server.Config{Store: o.store})
	url, stop, err := serve(srv)
	if err != nil {
		return nil, err
	}
	o.url, o.stop = url, append(o.stop, srv.Close, stop)
	return o, prepare(ctx, url, keyed)
}

func (o *own) close() {
	for i := len(o.stop) - 1; i >= 0; i-- {
		o.stop[i]()
	}
}

func (o *own) publish(ctx context.Context, n, size int) (time.Duration, error) {
	return o.settings.send(ctx, o.url, slices.Values(samples(n, size, o.keyed)))
}

func (o *own) consume(ctx context.Context, n, size int) (time.Duration, error) {
	return o.settings.consume(ctx, o.url, n, size)
}

func (o *own) both(ctx context.Context, n, size int) (time.Duration, error) {
	return o.settings.both(ctx, o.url, n, size)
}

func (o *own) singles(ctx context.Context, n, senders int) (time.Duration, int64, error) {
	client, err := newClient(o.url)
	if err != nil {
		return 0, 0, err
	}
	defer client.Close()
	before := o.store.Info().Syncs
	took, err := bySenders(n, senders, func(i int) error {
		_, err := client.SendMessage(ctx, "stream", key(i), payload(100))
		return err
	})
	return took, o.store.Info().Syncs - before, err
}

func (p *peer) singles(ctx context.Context, n, senders int) (time.Duration, int64, error) {
	data := []byte(payload(100))
	took, err := bySenders(n, senders, func(i int) error {
		_, err := p.js.Publish(ctx, key(i), data)
		return err
	})
	return took, 0, err
}

// bySenders calls send with each number below n, from several goroutines.
func bySenders(n, senders int, send func(i int) error) (time.Duration, error) {
	var next atomic.Int64
	errs := make([]error, senders)
	var all sync.WaitGroup
	began := time.Now()
	for s := range senders {
		all.Go(func() {
			for errs[s] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[s] = send(i)
			}
		})
	}
	all.Wait()
	return time.Since(began), errors.Join(errs...)
}

// tempDir makes a directory for data. It refuses a file system in memory, on which nothing is synced.
func tempDir(name string) (string, error) {
	dir, err := os.MkdirTemp("", name)
	if err == nil && inMemory(dir) {
		err = errors.Join(fmt.Errorf("%s is in memory: let TMPDIR name a directory on a disk", dir), os.Remove(dir))
	}
	return dir, err
}

// onDisk is a measurement of a contender in one round: a rate, and how many sends share a sync if it says so.
func onDisk(ctx context.Context, c diskCell, name string, n int) (perSecond, perSync float64, err error) {
	total, runs, syncs := time.Duration(0), 0, int64(0)
	for total < minMeasured {
		took, synced, err := c.once(ctx, name, n)
		if err != nil {
			return 0, 0, fmt.Errorf("%s, %s, %s: %w", c.Work, sizeName(c.Size), name, err)
		}
		total, runs, syncs = total+took, runs+1, syncs+synced
	}
	if syncs > 0 {
		perSync = float64(runs*n) / float64(syncs)
	}
	return float64(runs*n) / total.Seconds(), perSync, nil
}

// once measures a cell once, on a new server.
func (c diskCell) once(ctx context.Context, name string, n int) (took time.Duration, syncs int64, err error) {
	d, err := newDisk(ctx, name, c.Work == workKeyed)
	if err != nil {
		return 0, 0, err
	}
	defer d.close()
	if c.Work == workConsume {
		if _, err := d.publish(ctx, n, c.Size); err != nil {
			return 0, 0, err
		}
	}
	runtime.GC() // so that garbage of earlier runs is not collected in this one
	switch c.Work {
	case workConsume:
		took, err = d.consume(ctx, n, c.Size)
	case workBoth:
		took, err = d.both(ctx, n, c.Size)
	case workSingles:
		took, syncs, err = d.singles(ctx, n, singleSenders)
	default:
		took, err = d.publish(ctx, n, c.Size)
	}
	return took, syncs, err
}
