package server_test

import (
	"context"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// failingStore is the store in memory, of which the next call of chosen methods fails. Names of methods of streams,
// consumers and places have a prefix.
type failingStore struct {
	store.Store
	errs   map[string]error
	failed int                                      // calls that failed
	before func(ctx context.Context, method string) // is called first, when it is not nil
}

func newFailingStore() *failingStore {
	return &failingStore{Store: store.NewMemory(), errs: map[string]error{}}
}

func (s *failingStore) fail(method string, err error) { s.errs[method] = err }

// call returns the error that a method has to return, once.
func (s *failingStore) call(ctx context.Context, method string) error {
	if s.before != nil {
		s.before(ctx, method)
	}
	err := s.errs[method]
	if err != nil {
		s.failed++
		delete(s.errs, method)
	}
	return err
}

// or returns what f returns, unless the method has to fail.
func or[T any](ctx context.Context, s *failingStore, method string, f func() (T, error)) (T, error) {
	if err := s.call(ctx, method); err != nil {
		var none T
		return none, err
	}
	return f()
}

func (s *failingStore) Probe(ctx context.Context) error {
	if err := s.call(ctx, "Probe"); err != nil {
		return err
	}
	return s.Store.Probe(ctx)
}

func (s *failingStore) stream(inner store.Stream, err error) (store.Stream, error) {
	if err != nil {
		return nil, err
	}
	return failingStream{inner, s}, nil
}

func (s *failingStore) CreateStream(ctx context.Context, o store.StreamOptions) (store.Stream, error) {
	return or(ctx, s, "CreateStream", func() (store.Stream, error) { return s.stream(s.Store.CreateStream(ctx, o)) })
}

func (s *failingStore) Stream(ctx context.Context, ref string) (store.Stream, error) {
	return or(ctx, s, "Stream", func() (store.Stream, error) { return s.stream(s.Store.Stream(ctx, ref)) })
}

func (s *failingStore) Streams(ctx context.Context) ([]store.Stream, error) {
	return or(ctx, s, "Streams", func() ([]store.Stream, error) {
		all, err := s.Store.Streams(ctx)
		for i := range all {
			all[i] = failingStream{all[i], s}
		}
		return all, err
	})
}

type failingStream struct {
	store.Stream
	s *failingStore
}

func (f failingStream) Info(ctx context.Context) (store.StreamInfo, error) {
	return or(ctx, f.s, "Stream.Info", func() (store.StreamInfo, error) { return f.Stream.Info(ctx) })
}

func (f failingStream) Delete(ctx context.Context) error {
	if err := f.s.call(ctx, "Stream.Delete"); err != nil {
		return err
	}
	return f.Stream.Delete(ctx)
}

func (f failingStream) Send(ctx context.Context, o store.Once, messages []store.Message) (int, error) {
	return or(ctx, f.s, "Stream.Send", func() (int, error) { return f.Stream.Send(ctx, o, messages) })
}

func (f failingStream) Get(ctx context.Context, key string) (store.Message, error) {
	return or(ctx, f.s, "Stream.Get", func() (store.Message, error) { return f.Stream.Get(ctx, key) })
}

func (f failingStream) List(ctx context.Context, q store.ListQuery) ([]store.Message, error) {
	return or(ctx, f.s, "Stream.List", func() ([]store.Message, error) { return f.Stream.List(ctx, q) })
}

func (f failingStream) States(ctx context.Context, key string) (store.Message, []store.ConsumerView, error) {
	if err := f.s.call(ctx, "Stream.States"); err != nil {
		return store.Message{}, nil, err
	}
	return f.Stream.States(ctx, key)
}

func (f failingStream) consumer(inner store.Consumer, err error) (store.Consumer, error) {
	if err != nil {
		return nil, err
	}
	return failingConsumer{inner, f.s}, nil
}

func (f failingStream) CreateConsumer(ctx context.Context, o store.ConsumerOptions) (store.Consumer, error) {
	return or(ctx, f.s, "Stream.CreateConsumer", func() (store.Consumer, error) { return f.consumer(f.Stream.CreateConsumer(ctx, o)) })
}

func (f failingStream) Consumer(ctx context.Context, ref string) (store.Consumer, error) {
	return or(ctx, f.s, "Stream.Consumer", func() (store.Consumer, error) { return f.consumer(f.Stream.Consumer(ctx, ref)) })
}

func (f failingStream) Consumers(ctx context.Context) ([]store.Consumer, error) {
	return or(ctx, f.s, "Stream.Consumers", func() ([]store.Consumer, error) {
		all, err := f.Stream.Consumers(ctx)
		for i := range all {
			all[i] = failingConsumer{all[i], f.s}
		}
		return all, err
	})
}

type failingConsumer struct {
	store.Consumer
	s *failingStore
}

func (f failingConsumer) Info(ctx context.Context) (store.ConsumerInfo, error) {
	return or(ctx, f.s, "Consumer.Info", func() (store.ConsumerInfo, error) { return f.Consumer.Info(ctx) })
}

func (f failingConsumer) Update(ctx context.Context, l store.ConsumerLimits) (store.ConsumerInfo, error) {
	return or(ctx, f.s, "Consumer.Update", func() (store.ConsumerInfo, error) { return f.Consumer.Update(ctx, l) })
}

func (f failingConsumer) Delete(ctx context.Context) error {
	if err := f.s.call(ctx, "Consumer.Delete"); err != nil {
		return err
	}
	return f.Consumer.Delete(ctx)
}

func (f failingConsumer) Receive(ctx context.Context, n int, dst []store.Delivery) ([]store.Delivery, error) {
	if err := f.s.call(ctx, "Consumer.Receive"); err != nil {
		return dst, err
	}
	return f.Consumer.Receive(ctx, n, dst)
}

func (f failingConsumer) Settle(ctx context.Context, ids []store.ID, how store.Settlement) error {
	if err := f.s.call(ctx, "Consumer.Settle"); err != nil {
		return err
	}
	return f.Consumer.Settle(ctx, ids, how)
}

func (f failingConsumer) Extend(ctx context.Context, ids []store.ID, wait time.Duration) ([]store.ID, error) {
	return or(ctx, f.s, "Consumer.Extend", func() ([]store.ID, error) { return f.Consumer.Extend(ctx, ids, wait) })
}

func (f failingConsumer) Delay(ctx context.Context, ids []store.ID, how store.Settlement, delay time.Duration) error {
	if err := f.s.call(ctx, "Consumer.Delay"); err != nil {
		return err
	}
	return f.Consumer.Delay(ctx, ids, how, delay)
}

func (f failingConsumer) Peek(ctx context.Context, q store.PeekQuery) ([]store.View, error) {
	return or(ctx, f.s, "Consumer.Peek", func() ([]store.View, error) { return f.Consumer.Peek(ctx, q) })
}

func (f failingConsumer) Queue(ctx context.Context) (store.Place, error) {
	return or(ctx, f.s, "Consumer.Queue", func() (store.Place, error) {
		p, err := f.Consumer.Queue(ctx)
		return failingPlace{p, f.s}, err
	})
}

type failingPlace struct {
	store.Place
	s *failingStore
}

func (f failingPlace) Receive(ctx context.Context, n int, dst []store.Delivery) ([]store.Delivery, error) {
	if err := f.s.call(ctx, "Place.Receive"); err != nil {
		return dst, err
	}
	return f.Place.Receive(ctx, n, dst)
}
