package failurelog

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func fail(l *Log, key string, seq int64) Record {
	return l.Update(ID{key, seq}, func(r *Record) { r.Note(time.Unix(seq, 0), "why", true) })
}

func TestALogCountsTheVersionsOfAKeySeparately(t *testing.T) {
	l := New()
	require.Equal(t, 1, fail(l, "k", 1).Failures)
	require.Equal(t, 2, fail(l, "k", 1).Failures)
	require.Equal(t, 1, fail(l, "k", 2).Failures, "another version of the key")
	require.Equal(t, 2, l.Get(ID{Key: "k", Seq: 1}).Tries)
	require.Zero(t, l.Get(ID{Key: "k", Seq: 3}))
	l.Forget(ID{Key: "k", Seq: 1})
	require.Zero(t, l.Get(ID{Key: "k", Seq: 1}))
	require.Equal(t, 1, l.Get(ID{Key: "k", Seq: 2}).Failures)
}

func TestALogKeepsTheTimesOfTheFirstAndTheLastFailure(t *testing.T) {
	l := New()
	for at := range int64(3) {
		l.Update(ID{Key: "k"}, func(r *Record) { r.Note(time.Unix(at, 0), fmt.Sprint(at), at > 0) })
	}
	r := l.Get(ID{Key: "k"})
	require.Equal(t, Record{Failures: 3, Tries: 2, First: time.Unix(0, 0), Last: time.Unix(2, 0), Text: "2"}, r)
}

func TestALogEvictsTheRecordThatChangedLeastRecently(t *testing.T) {
	l := New()
	for i := range maxRecords {
		fail(l, "k", int64(i))
	}
	fail(l, "k", 0) // it changed again, and is now the latest
	fail(l, "k", maxRecords)
	require.Len(t, l.records, maxRecords)
	require.Equal(t, maxRecords, l.order.Len())
	require.Equal(t, 2, l.Get(ID{Key: "k", Seq: 0}).Failures)
	require.Zero(t, l.Get(ID{Key: "k", Seq: 1}), "it changed least recently")
	require.Equal(t, 1, l.Get(ID{Key: "k", Seq: 2}).Failures)
}

func TestALogDoesNotKeepTheDataAlive(t *testing.T) {
	l := New()
	before := heap()
	for i := range 100 {
		message := fmt.Sprintf("k.%04d", i) + strings.Repeat("x", 1<<20) // key and data share memory
		fail(l, message[:6], int64(i))
	}
	require.Less(t, int64(heap())-int64(before), int64(10<<20))
	require.Len(t, l.records, 100)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// unprintable is an error whose nil pointer panics when it is printed.
type unprintable struct{ text string }

func (u *unprintable) Error() string { return u.text }

func TestTheTextOfAnErrorIsBounded(t *testing.T) {
	require.Equal(t, "why", Text(errors.New("why")))
	require.Equal(t, strings.Repeat("x", maxText)+"…", Text(errors.New(strings.Repeat("x", maxText+1))))
	require.Equal(t, "a\uFFFDb", Text(errors.New("a\xffb")))
	require.NotPanics(t, func() { Text((*unprintable)(nil)) })
}
