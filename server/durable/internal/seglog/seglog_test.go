package seglog

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestRecordsAreReadBackInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, dir := context.Background(), t.TempDir()
		l, err := Open(dir, Options{SegmentBytes: 4 << 10, MinFree: -1})
		require.NoError(t, err)
		require.NoError(t, l.Start())
		var last Pos
		var all []Pos
		for i := range 1000 {
			last = l.Append(byte(i%5), uint32(i), []byte(fmt.Sprint("record ", i)))
			all = append(all, last)
			if i%100 == 0 {
				require.NoError(t, l.Wait(ctx, last))
			}
		}
		r := l.NewReader()
		for i, p := range all {
			rec, err := r.Read(p)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("record ", i), string(rec.Body))
		}
		require.NoError(t, l.Wait(ctx, last))
		for i, p := range all {
			rec, err := r.Read(p)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("record ", i), string(rec.Body))
		}
		require.NoError(t, l.WriteSnapshot(ctx, all[500], func(w io.Writer) error { _, err := io.WriteString(w, "state"); return err }))
		require.NoError(t, l.Close())

		l, err = Open(dir, Options{SegmentBytes: 4 << 10, MinFree: -1})
		require.NoError(t, err)
		from, err := l.ReadSnapshot(func(r io.Reader) error {
			b, err := io.ReadAll(r)
			require.Equal(t, "state", string(b))
			return err
		})
		require.NoError(t, err)
		require.Equal(t, all[500], from)
		for start, from := range map[int]Pos{0: 0, 500: from} {
			n := start
			require.NoError(t, l.Replay(from, func(r Record) error {
				require.Equal(t, fmt.Sprint("record ", n), string(r.Body))
				n++
				return nil
			}))
			require.Equal(t, 1000, n)
		}
		require.NoError(t, l.Start())
		require.NoError(t, l.Wait(ctx, l.Append(1, 1, []byte("more"))))
		require.NoError(t, l.Close())
	})
}
