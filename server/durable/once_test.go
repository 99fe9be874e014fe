package durable

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	wire "github.com/sequin-go/sequin/server/internal/binary"
)

func successOf(n int, at time.Duration) success {
	s := success{published: int64(n), at: int64(at)}
	binary.BigEndian.PutUint64(s.key[:], uint64(n))
	return s
}

func TestTheLatestMillionSendsAreRemembered(t *testing.T) {
	var r successes
	for i := range maxRemembered + 2 {
		r.remember(successOf(i, 0))
	}
	require.Len(t, r.byKey, maxRemembered)
	require.Nil(t, r.get(successOf(1, 0).key, 0))
	require.EqualValues(t, 2, r.get(successOf(2, 0).key, 0).published)
	require.EqualValues(t, maxRemembered+1, r.get(successOf(maxRemembered+1, 0).key, 0).published)
}

// TestNothingIsKeptOfSendsThatAreForgotten lets sends get too old, and one of them succeed again.
func TestNothingIsKeptOfSendsThatAreForgotten(t *testing.T) {
	var r successes
	for i := range 100 {
		r.remember(successOf(i, time.Duration(i)*time.Second))
	}
	late := 10*time.Minute + 50*time.Second
	require.Nil(t, r.get(successOf(49, 0).key, int64(late)))
	require.NotNil(t, r.get(successOf(50, 0).key, int64(late)))
	r.remember(successOf(49, late))
	require.Len(t, r.byKey, 51)
	require.Len(t, r.list, 51)
	r.remember(successOf(7, time.Hour))
	require.Len(t, r.byKey, 1)
	require.NotNil(t, r.get(successOf(7, 0).key, int64(time.Hour)))
}

// TestAClockThatWasSetBackKeepsNoSendLonger writes and reads the successes, too.
func TestAClockThatWasSetBackKeepsNoSendLonger(t *testing.T) {
	var r successes
	r.remember(successOf(1, 55*time.Minute))
	r.remember(successOf(2, time.Hour))
	frozen := r.frozen()
	r.opened(int64(30 * time.Minute))
	require.EqualValues(t, time.Hour, frozen[1].at, "a snapshot that is being written does not change")
	r = readSuccesses(wire.NewReader(appendSuccesses(nil, r.list)))
	require.NotNil(t, r.get(successOf(2, 0).key, int64(40*time.Minute)))
	require.Nil(t, r.get(successOf(2, 0).key, int64(40*time.Minute)+1))
	require.Nil(t, r.get(successOf(1, 0).key, int64(40*time.Minute)+1))
}
