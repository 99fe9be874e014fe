package durable

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// TestLostMessagesAreNeitherDeliveredNorWaitedFor leases or nacks all messages of a stream, or reads none, and loses
// one of them. A snapshot knows of it.
func TestLostMessagesAreNeitherDeliveredNorWaitedFor(t *testing.T) {
	for _, state := range []string{"unread", "leased", "nacked"} {
		for _, lost := range []int{0, 5, 9} {
			t.Run(fmt.Sprint("message ", lost, " ", state), func(t *testing.T) {
				inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
					var want []string
					for i := range 10 {
						require.NoError(f, f.send(fmt.Sprint("key-", i)))
						if i != lost {
							want = append(want, fmt.Sprint("key-", i))
						}
					}
					if state != "unread" {
						_, ids := f.receive(10)
						if state == "nacked" {
							require.NoError(f, f.consumer.Settle(f.Context(), ids, store.Nack))
						}
					}
					require.NoError(f, f.st.Close())
					damage(f, f.fs, fmt.Sprint("data of key-", lost))
					report, err := repair(f.Context(), "dir", "new", f.fs)
					require.NoError(f, err)
					require.Equal(f, []SeqRange{{int64(lost + 1), int64(lost + 1)}}, report.Streams[0].Lost)
					f.st = open(f, "new", f.o)
					f.find()
					time.Sleep(time.Hour)
					require.Equal(f, want, f.list())
					require.Equal(f, 9, f.info().Messages)
					keys, _ := f.receive(10)
					require.Equal(f, want, keys)
					keys, _ = f.receive(10)
					require.Empty(f, keys)
					require.NoError(f, f.send("next"))
					keys, _ = f.receive(10)
					require.Equal(f, []string{"next"}, keys)
				})
			})
		}
	}
}

// TestASegmentIsEmptyWhenAllAroundItsHolesIsCopied copies the messages of a segment that has a hole, in both orders.
func TestASegmentIsEmptyWhenAllAroundItsHolesIsCopied(t *testing.T) {
	at := func(segment, offset int) seglog.Pos { return seglog.Pos(segment)<<32 | seglog.Pos(offset) }
	for _, order := range [][2]int64{{1, 21}, {21, 1}} {
		var found extents
		found.add(extent{1, 10, at(1, 100), 50})
		found.add(extent{21, 30, at(1, 900), 50})
		found.add(extent{31, 40, at(2, 100), 50})
		l, oldest := found.index(1, 40)
		require.Equal(t, holes{{11, 20, false}}, l.holes)
		require.EqualValues(t, 1, oldest)
		for i, first := range order {
			l.move(first, first+9, oldest, at(3, 100+200*i), 50)
		}
		for _, s := range l.spans {
			assert.NotEqual(t, uint32(1), s.segment, "%v", l.spans)
		}
		assert.EqualValues(t, at(2, 100), l.entries[l.find(35)].pos)
	}
}
