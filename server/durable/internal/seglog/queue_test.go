package seglog

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A record that is lost is never taken for one that is written, though what is written behind it passes its position.
func TestALostRecordIsNotTakenForAWrittenOne(t *testing.T) {
	lost, behind := position(1, 500), position(2, 500)
	for range 200_000 {
		q := newQueue(Options{})
		q.fail(errDisk)
		q.end = position(1, 600)
		start, result := make(chan struct{}), make(chan error)
		go func() {
			<-start
			for {
				if done, err := q.reached(lost, false); done {
					result <- err
					return
				}
			}
		}()
		close(start)
		q.recover(segmentHead{}, position(1, 100), 0)
		q.written.Store(uint64(behind))
		require.ErrorIs(t, <-result, errDisk)
	}
}
