package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
	"github.com/sequin-go/sequin/server/transfer"
)

var copyFaultTests = []test{
	{promise: "a stream that is copied is read-only", check: copiedIsReadOnly},
	{promise: "a stream that is copied is read-only after a reopening", check: readOnlyReopens, reopens: true},
	{promise: "a copy that is not complete is read-only", check: targetIsReadOnly},
	{promise: "a copy that is not complete is read-only after a reopening", check: targetReopens, reopens: true},
	{promise: "a copy that lacks messages is not complete", check: copyLacksMessages},
	{promise: "a copy that fails at any step goes on", check: copyGoesOn},
	{promise: "a copy of one per key that fails at any step goes on", check: copyGoesOn, options: onePerKey},
	{promise: "a copy is given up", check: copyCanceled},
	{promise: "what an earlier copy left is not used", check: copyStartsAnew, options: onePerKey},
	{promise: "a copy refuses a stream that is not its own", check: copyRefuses},
}

// requireReadOnly holds that a stream and its consumer take no change for a reason, and can be looked at.
func (f *fixture) requireReadOnly(reason string, leased store.Delivery) {
	f.t.Helper()
	ctx, ids := f.t.Context(), []store.ID{leased.ID}
	before := f.stored()
	changes := map[string]func() error{
		"Send":           func() error { _, err := f.stream.Send(ctx, store.Once{}, batch([]string{"x"})); return err },
		"CreateConsumer": func() error { _, err := f.stream.CreateConsumer(ctx, store.ConsumerOptions{Name: "x"}); return err },
		"Receive":        func() error { _, err := f.consumer.Receive(ctx, 1, nil); return err },
		"Queue":          func() error { _, err := f.consumer.Queue(ctx); return err },
		"Settle":         func() error { return f.consumer.Settle(ctx, ids, store.Ack) },
		"Delay":          func() error { return f.consumer.Delay(ctx, ids, store.Nack, time.Hour) },
		"Extend":         func() error { _, err := f.consumer.Extend(ctx, ids, time.Hour); return err },
		"Update":         func() error { _, err := f.consumer.Update(ctx, orDefaults(store.ConsumerLimits{})); return err },
		"Delete":         func() error { return f.consumer.Delete(ctx) },
	}
	if f.isExtended() {
		changes["Purge"] = func() error { _, err := f.extended().Purge(ctx, store.PurgeQuery{}); return err }
	}
	for name, change := range changes {
		err := change()
		require.ErrorIs(f.t, err, store.ErrCopying, name)
		require.ErrorContains(f.t, err, reason, name)
	}
	require.Equal(f.t, before, f.stored())
	f.peek(store.PeekQuery{ListQuery: store.ListQuery{Limit: 9}})
}

func copiedIsReadOnly(f *fixture) {
	f.send("a=1", "b=2")
	out := f.receive(1)
	to := f.copied()
	f.requireReadOnly("it was copied to another store", out[0])
	_, err := f.stream.(store.CopyableStream).CopyMark(f.t.Context())
	require.NoError(f.t, err)
	require.ErrorIs(f.t, to.stream.(store.CopyableStream).RestoreMessages(f.t.Context(), nil, 99), store.ErrFailed)
	require.NoError(f.t, f.stream.Delete(f.t.Context()), "it can be deleted")
	require.Equal(f.t, []string{"a=1", "b=2"}, got(to.receive(9)))
}

func readOnlyReopens(f *fixture) {
	f.copyable()
	f.send("a=1", "b=2")
	out := f.receive(1)
	f.mark(store.CopyMark{State: store.CopySource, Peer: "x"})
	for range 2 {
		f.requireReadOnly("it is being copied to another store", out[0])
		f.reopen()
	}
	f.mark(store.CopyMark{})
	f.reopen()
	f.send("c=3")
	f.ack(out...)
}

func (f *fixture) mark(mark store.CopyMark) {
	f.t.Helper()
	require.NoError(f.t, f.stream.(store.CopyableStream).SetCopyMark(f.t.Context(), mark))
}

func targetIsReadOnly(f *fixture) {
	st := f.copyable()
	s, err := st.CreateCopy(f.t.Context(), store.StreamInfo{StreamOptions: store.StreamOptions{Name: "t"}, InsertedAt: time.Now()}, "x")
	require.NoError(f.t, err)
	target := s.(store.CopyableStream)
	require.NoError(f.t, target.RestoreMessages(f.t.Context(), []store.Message{{Key: "a", Data: "1", Seq: 3, InsertedAt: 1, UpdatedAt: 1}}, 7))
	require.NoError(f.t, target.RestoreMessages(f.t.Context(), []store.Message{{Key: "a", Data: "1", Seq: 3, InsertedAt: 1, UpdatedAt: 1}}, 7), "a repeat changes nothing")
	info := need(f, f.consumer.Info)
	require.NoError(f.t, target.RestoreConsumer(f.t.Context(), info, store.Position{Next: 1}))
	require.ErrorIs(f.t, target.RestoreConsumer(f.t.Context(), info, store.Position{Next: 1}), store.ErrNameTaken)
	f.stream, f.consumer = target, f.findConsumer(target, "c")
	f.requireReadOnly("it is being copied from another store", store.Delivery{})
	f.mark(store.CopyMark{})
	require.Equal(f.t, []string{"a=1"}, got(f.receive(9)))
	require.Equal(f.t, int64(7), need(f, target.NextSeq))
	_, err = st.CreateCopy(f.t.Context(), store.StreamInfo{StreamOptions: store.StreamOptions{Name: "t"}}, "x")
	require.ErrorIs(f.t, err, store.ErrNameTaken)
}

func targetReopens(f *fixture) {
	s, err := f.copyable().CreateCopy(f.t.Context(), store.StreamInfo{StreamOptions: store.StreamOptions{Name: "t"}, InsertedAt: time.Now()}, "x")
	require.NoError(f.t, err)
	target := s.(store.CopyableStream)
	require.NoError(f.t, target.RestoreConsumer(f.t.Context(), need(f, f.consumer.Info), store.Position{Next: 1}))
	f.stream, f.consumer = target, f.findConsumer(target, "c")
	for range 2 {
		f.reopen()
		f.requireReadOnly("it is being copied from another store", store.Delivery{})
		mark := need(f, f.stream.(store.CopyableStream).CopyMark)
		require.Equal(f.t, store.CopyMark{State: store.CopyTarget, Peer: "x"}, mark)
	}
}

// forgetful is a store whose lists lack the first message.
type forgetful struct{ store.Copyable }

type forgetfulStream struct{ store.CopyableStream }

func (x forgetful) Streams(ctx context.Context) ([]store.Stream, error) {
	all, err := x.Copyable.Streams(ctx)
	for i, s := range all {
		all[i] = forgetfulStream{s.(store.CopyableStream)}
	}
	return all, err
}

func (s forgetfulStream) List(ctx context.Context, q store.ListQuery) ([]store.Message, error) {
	q.After = max(q.After, 1)
	return s.CopyableStream.List(ctx, q)
}

func copyLacksMessages(f *fixture) {
	f.send("a=1", "b=2")
	to := f.target()
	_, err := transfer.Copy(f.t.Context(), forgetful{f.copyable()}, to.store, transfer.Options{})
	require.ErrorContains(f.t, err, "the copy has 1 messages with 2 bytes and 1 consumers, and the stream 2, 4 and 1")
	to.find()
	to.requireReadOnly("is not complete", store.Delivery{})
}

// errFault is the error of a call of a flaky store.
var errFault = errors.New("fault")

// flaky is a store one of whose calls fails: before it does anything, or after it has done it.
type flaky struct {
	store.Copyable
	calls *int // until the one that fails
	after bool
}

// call calls f, or fails.
func (x flaky) call(f func() error) error {
	*x.calls--
	if *x.calls == 0 && !x.after {
		return errFault
	}
	err := f()
	if *x.calls == 0 && err == nil {
		return errFault
	}
	return err
}

func (x flaky) Streams(ctx context.Context) ([]store.Stream, error) {
	all, err := x.Copyable.Streams(ctx)
	for i, s := range all {
		all[i] = flakyStream{s.(store.CopyableStream), x}
	}
	return all, err
}

func (x flaky) Stream(ctx context.Context, ref string) (store.Stream, error) {
	s, err := x.Copyable.Stream(ctx, ref)
	if err != nil {
		return nil, err
	}
	return flakyStream{s.(store.CopyableStream), x}, nil
}

func (x flaky) CreateCopy(ctx context.Context, info store.StreamInfo, of string) (s store.Stream, err error) {
	err = x.call(func() error {
		created, err := x.Copyable.CreateCopy(ctx, info, of)
		if err == nil {
			s = flakyStream{created.(store.CopyableStream), x}
		}
		return err
	})
	return s, err
}

// flakyStream is a stream of a flaky store. What only looks fails too, where a copy may be in the middle.
type flakyStream struct {
	store.CopyableStream
	of flaky
}

func (s flakyStream) SetCopyMark(ctx context.Context, m store.CopyMark) error {
	return s.of.call(func() error { return s.CopyableStream.SetCopyMark(ctx, m) })
}

func (s flakyStream) List(ctx context.Context, q store.ListQuery) (all []store.Message, err error) {
	q.Limit = min(q.Limit, 2) // so that there are several pages
	err = s.of.call(func() error { all, err = s.CopyableStream.List(ctx, q); return err })
	return all, err
}

func (s flakyStream) RestoreMessages(ctx context.Context, all []store.Message, next int64) error {
	return s.of.call(func() error { return s.CopyableStream.RestoreMessages(ctx, all, next) })
}

func (s flakyStream) RestoreSends(ctx context.Context, all []store.RememberedSend) error {
	return s.of.call(func() error { return s.CopyableStream.RestoreSends(ctx, all) })
}

func (s flakyStream) RestoreConsumer(ctx context.Context, info store.ConsumerInfo, p store.Position) error {
	return s.of.call(func() error { return s.CopyableStream.RestoreConsumer(ctx, info, p) })
}

func copyGoesOn(f *fixture) {
	from := f.copyable()
	once := store.Once{Key: "1", Body: []byte("x")}
	_, err := f.stream.Send(f.t.Context(), once, batch([]string{"a=1", "b=2", "c=3", "d=4", "a=5"}))
	require.NoError(f.t, err)
	f.createConsumer(f.stream, "d", "a", store.ConsumerLimits{})
	f.ack(f.receive(3)[1])
	to := f.target()
	for _, after := range []bool{false, true} {
		failures := 0
		for f.failAt(to, failures+1, after) {
			failures++
			_, err = transfer.Copy(f.t.Context(), from, to.store, transfer.Options{})
			require.NoError(f.t, err)
			to.find()
			f.requireCopied(to)
			report, err := transfer.Copy(f.t.Context(), from, to.store, transfer.Options{})
			require.NoError(f.t, err)
			require.True(f.t, report.Streams[0].Before)
			again, err := to.stream.Send(f.t.Context(), once, batch([]string{"a=1"}))
			require.NoError(f.t, err)
			require.Equal(f.t, 5, again, "the send is remembered")
		}
		require.Greater(f.t, failures, 9, "the copy has so many steps")
	}
}

// failAt copies the streams anew, to a store from which an earlier copy is deleted, and reports whether a call failed: the n-th one.
func (f *fixture) failAt(to *fixture, n int, after bool) bool {
	f.t.Helper()
	_, err := transfer.Cancel(f.t.Context(), f.store, nil, transfer.Options{})
	require.NoError(f.t, err)
	for _, name := range to.streamNames() {
		require.NoError(f.t, to.findStream(name).Delete(f.t.Context()))
	}
	source := flaky{Copyable: f.copyable(), calls: &n, after: after}
	target := source
	target.Copyable = to.copyable()
	_, err = transfer.Copy(f.t.Context(), source, target, transfer.Options{})
	if err != nil {
		require.ErrorIs(f.t, err, errFault)
	}
	return err != nil
}

func copyCanceled(f *fixture) {
	from := f.copyable()
	f.send("a=1", "b=2", "c=3")
	to := f.target()
	left := 3
	source := flaky{Copyable: from, calls: &left}
	_, err := transfer.Copy(f.t.Context(), source, to.store, transfer.Options{})
	require.ErrorIs(f.t, err, errFault)
	for _, want := range [][]string{{"s"}, {}} {
		canceled, err := transfer.Cancel(f.t.Context(), from, to.store, transfer.Options{})
		require.NoError(f.t, err)
		require.Equal(f.t, want, canceled)
	}
	require.Empty(f.t, to.streamNames())
	f.send("d=4")
	to = f.copied()
	canceled, err := transfer.Cancel(f.t.Context(), from, to.store, transfer.Options{})
	require.NoError(f.t, err)
	require.Empty(f.t, canceled, "the copy is complete")
	f.requireReadOnly("it was copied", store.Delivery{})
}

func copyStartsAnew(f *fixture) {
	from := f.copyable()
	f.send("a=1", "b=2", "c=3")
	to := f.target()
	left := 3
	source := flaky{Copyable: from, calls: &left}
	_, err := transfer.Copy(f.t.Context(), source, to.store, transfer.Options{})
	require.ErrorIs(f.t, err, errFault)
	_, err = transfer.Cancel(f.t.Context(), from, nil, transfer.Options{})
	require.NoError(f.t, err)
	f.send("a=4")
	f.purge(store.PurgeQuery{Pattern: "b"})
	_, err = transfer.Copy(f.t.Context(), from, to.store, transfer.Options{})
	require.NoError(f.t, err)
	to.find()
	f.requireCopied(to)
}

func copyRefuses(f *fixture) {
	from := f.copyable()
	f.send("a=1")
	to := f.target()
	to.createStream(store.StreamOptions{Name: "s"})
	for _, tt := range []struct {
		from, to store.Store
		streams  []string
		want     error
	}{
		{from, to.store, nil, transfer.ErrTaken},
		{from, to.store, []string{"nope"}, transfer.ErrNoStream},
		{from, store.NewMemory(), nil, transfer.ErrUnsupported},
	} {
		_, err := transfer.Copy(f.t.Context(), tt.from, tt.to, transfer.Options{Streams: tt.streams})
		require.ErrorIs(f.t, err, tt.want)
	}
	_, err := transfer.Copy(f.t.Context(), from, from, transfer.Options{})
	require.ErrorContains(f.t, err, "to itself")
	f.send("b=2") // it is not read-only
	f.copied()
	other := f.target()
	_, err = transfer.Copy(f.t.Context(), from, other.store, transfer.Options{})
	require.ErrorIs(f.t, err, transfer.ErrElsewhere)
	_, err = other.store.(store.Copyable).CreateCopy(f.t.Context(), store.StreamInfo{StreamOptions: store.StreamOptions{Name: "half"}}, "x")
	require.NoError(f.t, err)
	_, err = transfer.Copy(f.t.Context(), other.store, f.target().store, transfer.Options{})
	require.ErrorIs(f.t, err, transfer.ErrIncomplete)
}
