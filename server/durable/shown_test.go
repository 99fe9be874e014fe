package durable

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// TestNoCreateOrDeleteIsShownBeforeItIsCommitted blocks the sync of two deletes and a create. A loss of power could still
// undo them, so nobody hears of them until then.
func TestNoCreateOrDeleteIsShownBeforeItIsCommitted(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		ctx := f.Context()
		doomed, err := f.st.CreateStream(ctx, store.StreamOptions{Name: "doomed"})
		require.NoError(f, err)
		synced := make(chan struct{})
		f.fs.SetHook(func(op crashfs.Op) error {
			if op.Kind == crashfs.Sync {
				<-synced
			}
			return nil
		})
		ended := make(chan string, 20)
		start := func(name string, want error, do func() error) {
			go func() {
				assert.ErrorIs(f, do(), want, name)
				ended <- name
			}()
			synctest.Wait()
			require.Empty(f, ended)
		}
		start("delete the consumer", nil, func() error { return f.consumer.Delete(ctx) })
		start("find the consumer", store.ErrNoConsumer, func() error { _, err := f.stream.Consumer(ctx, "c"); return err })
		start("list the consumers", nil, func() error {
			all, err := f.stream.Consumers(ctx)
			assert.Empty(f, all)
			return err
		})
		start("delete the stream", nil, func() error { return doomed.Delete(ctx) })
		start("delete it again", store.ErrNoStream, func() error { return doomed.Delete(ctx) })
		start("find the stream", store.ErrNoStream, func() error { _, err := f.st.Stream(ctx, "doomed"); return err })
		start("list the streams", nil, func() error {
			all, err := f.st.Streams(ctx)
			assert.Len(f, all, 1)
			return err
		})
		start("create a stream", nil, func() error { _, err := f.st.CreateStream(ctx, store.StreamOptions{Name: "new"}); return err })
		start("take its name", store.ErrNameTaken, func() error { _, err := f.st.CreateStream(ctx, store.StreamOptions{Name: "new"}); return err })
		close(synced)
		synctest.Wait()
		require.Len(f, ended, 9)
	})
}
