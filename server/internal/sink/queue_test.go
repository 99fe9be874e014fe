package sink_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/sink"
)

// A worker acks, nacks or forgets what it received, with restarts in between. The changes of each row must be acked in the
// order of their commits, and all of them.
func TestChangesOfARowAreDeliveredInOrderAndNoneIsLost(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const rows, changes = 20, 4_000
	now := time.Unix(0, 0)
	q := sink.New(time.Second)
	for i := range changes {
		q.Add([]sink.Change{{Row: fmt.Sprint(i % rows), Body: fmt.Append(nil, i)}})
	}
	var last [rows]int // the change of the row that was acked last, plus one
	for steps := 0; q.State(now) != (sink.State{}); steps++ {
		require.Less(t, steps, 100*changes)
		if random.IntN(1_000) == 0 {
			q.Restart(now)
			clear(last[:]) // what was acked just now may come again, from the first on
		}
		got, _ := q.Receive(now, 1+random.IntN(rows))
		for _, d := range got {
			var i int
			_, err := fmt.Sscan(string(d.Body), &i)
			require.NoError(t, err)
			if before := last[i%rows]; before > 0 {
				require.Equal(t, before-1+rows, i)
			}
			switch random.IntN(4) {
			case 0:
				q.Nack([]sink.ID{d.ID})
			case 1: // its lease ends
			default:
				q.Ack(now, []sink.ID{d.ID, d.ID})
				last[i%rows] = i + 1
			}
		}
		now = now.Add(400 * time.Millisecond)
	}
}

func TestAnAckOfAnAvailableChangeRemovesIt(t *testing.T) {
	now := time.Unix(0, 0)
	q := sink.New(time.Second)
	q.Add([]sink.Change{{Row: "a"}, {Row: "b"}})
	got, changed := q.Receive(now, 2)
	require.Len(t, got, 2)
	require.Nil(t, changed, "something is outstanding")
	q.Nack([]sink.ID{got[0].ID, got[1].ID})
	q.Ack(now, []sink.ID{got[1].ID, {}})
	left, _ := q.Receive(now, 2)
	require.Equal(t, got[:1], left)
	q.Ack(now, []sink.ID{left[0].ID})
	_, changed = q.Receive(now, 1)
	q.Add([]sink.Change{{Row: "c"}})
	<-changed
}
