package linelog

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLinesAreWrittenInTheBackgroundInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var texts []string
		release := make(chan struct{})
		l := Lines{Log: New(slog.New(handler{line: func(r slog.Record) {
			<-release
			r.Attrs(func(a slog.Attr) bool { r.Message += " " + a.String(); return true })
			texts = append(texts, r.Message)
		}})), Who: "reader", Attrs: []any{"stream", "s"}}
		for n := range 2 * maxLines {
			l.Add(slog.LevelInfo, "reads", "n", n) // waits for nothing
			synctest.Wait()                        // so that the first one is being written
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		l.Await(ended)
		require.Empty(t, texts)
		close(release)
		l.Await(t.Context())
		require.Len(t, texts, maxLines+1, "the one that was being written does not wait")
		require.Equal(t, []string{"sequin: reader reads stream=s n=0", "sequin: reader reads stream=s n=1"}, texts[:2])
		l.Write(slog.LevelInfo, "ends")
		require.Equal(t, "sequin: reader ends stream=s", texts[len(texts)-1])
	})
}

func TestASumTellsAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Sum
		require.Equal(t, 2, s.Add(2), "the first at once")
		require.Zero(t, s.Add(3))
		time.Sleep(time.Second - 1)
		require.Zero(t, s.Add(4))
		time.Sleep(time.Nanosecond)
		require.Equal(t, 8, s.Add(1))
		require.Zero(t, s.Add(1))
	})
}
