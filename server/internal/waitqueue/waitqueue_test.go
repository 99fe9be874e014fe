package waitqueue

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeSource has a lease that ends at expiry, unless that is zero, and a message after that.
type fakeSource struct {
	expiry    time.Time
	available bool
}

func (s *fakeSource) Refresh(now time.Time) bool {
	if !s.expiry.IsZero() && !now.Before(s.expiry) {
		s.expiry, s.available = time.Time{}, true
	}
	return s.available
}

func (s *fakeSource) NextExpiry() (time.Time, bool) { return s.expiry, !s.expiry.IsZero() }

func TestATimerRunsOnlyWhileAReceiveWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{}
		q := New(source, func() { t.Error("nobody waits") })
		q.Update()
		require.Nil(t, q.timer, "nobody waits")
		w := q.Join()
		require.Nil(t, q.timer, "no lease is out")
		source.expiry = time.Now().Add(time.Minute)
		q.Update()
		require.NotNil(t, q.timer)
		require.Equal(t, 1, q.Len())
		q.Leave(w)
		require.Nil(t, q.timer)
		require.Zero(t, q.Len())
		time.Sleep(time.Hour)
	})
}

func TestTheTimerCallsTheWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{expiry: time.Now().Add(time.Minute)}
		start := time.Now()
		ended := make(chan struct{})
		q := New(source, func() { close(ended) })
		w := q.Join()
		<-ended
		require.Equal(t, time.Minute, time.Since(start))
		require.Empty(t, w)
		q.Expired()
		require.Len(t, w, 1)
		q.Close()
	})
}
